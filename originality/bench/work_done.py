"""Counts of work from the verdicts of judged images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from originality.cost.operations import BatchSlots, Counts, denoising_steps
from originality.settings.audit import AuditSettings

Row = dict[str, Any]


def counts(rows: Sequence[Row], settings: AuditSettings) -> Counts:
    """Mean counts of work for an image, without the padding of passes that were not full."""
    return Counts(**{name: float(np.mean([_of(row, settings)[name] for row in rows])) for name in _FIELDS})


_FIELDS = tuple(Counts.model_fields)


def _of(row: Row, settings: AuditSettings) -> dict[str, float]:
    inversion, sweep = settings.inversion, row["sweep"]
    steps, drawn = _steps(row), _drawn(row, settings)
    always = settings.in_distribution.ask == "always"
    threshold = settings.distance.threshold
    near = [a["distance_mean"] is not None and a["distance_mean"] < threshold for a in sweep]
    edited = len(sweep) if always else sum(near)
    prompts = inversion.batch_size
    if inversion.templates is not None:
        prompts = min(prompts, inversion.templates, len(settings.selected_domain.templates))
    return {
        "tokens_tried": len(sweep),
        "tokens_checked": edited,
        "step_samples": steps * inversion.batch_size,
        "drawing_samples": drawn * _samples_a_redraw(settings),
        "decoded": drawn,
        "encoded": 2 if inversion.flips == "half" else 1,
        "step_prompts": steps * prompts,
        "prompts": len(sweep) + (edited if settings.in_distribution.check == "editability" else 0),
        "judged": 1 + sum(a["redraws"] for a in sweep),
    }


def _steps(row: Row) -> int:
    return sum(a["inversion_steps"] for a in row["sweep"])


def _drawn(row: Row, settings: AuditSettings) -> float:
    """Number of images drawn: redraws and images of the edit prompt."""
    samples = sum(a["unet_samples"] for a in row["sweep"]) - _steps(row) * settings.inversion.batch_size
    return float(samples / _samples_a_redraw(settings))


def _samples_a_redraw(settings: AuditSettings) -> int:
    return denoising_steps(settings.redraw) * settings.redraw.unet_samples


def places(rows: Sequence[Row], settings: AuditSettings) -> BatchSlots:
    """Batch slots in a run's passes for each slot that a verdict needed.

    Raises:
        KeyError: the rows do not record their batch slots, and the settings do not make them all needed.
    """
    # With one lane and full evaluations every slot is needed, so these rows need not record them.
    if settings.inversion.lanes == 1 and settings.redraw.pass_size == settings.redraw.count:
        return BatchSlots()
    there = {kind: sum(row["places"][kind] for row in rows) for kind in ("training", "drawing")}
    return BatchSlots(
        training=there["training"] / sum(_steps(row) for row in rows),
        drawing=there["drawing"] / sum(_drawn(row, settings) for row in rows),
    )
