"""What judged images cost: counts of work from their verdicts, and operations from those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from originality.costs import Counts, denoising_steps
from originality.flops import Flops
from originality.settings import AuditSettings

Row = dict[str, Any]


def counts(rows: Sequence[Row], settings: AuditSettings) -> Counts:
    """The mean of the images; what filled up short passes is not in it."""
    return Counts(**{name: float(np.mean([_of(row, settings)[name] for row in rows])) for name in _FIELDS})


_FIELDS = tuple(Counts.model_fields)


def _of(row: Row, settings: AuditSettings) -> dict[str, float]:
    inversion, redraw = settings.inversion, settings.redraw
    sweep = row["sweep"]
    steps = sum(a["inversion_steps"] for a in sweep)
    samples = steps * inversion.batch_size
    drawing = sum(a["unet_samples"] for a in sweep) - samples
    drawn = drawing / (denoising_steps(redraw) * (2 if redraw.guidance_scale > 1 else 1))
    always = settings.in_distribution.ask == "always"
    threshold = settings.distance.threshold
    near = [a["distance_mean"] is not None and a["distance_mean"] < threshold for a in sweep]
    edited = len(sweep) if always else sum(near)
    prompts = inversion.batch_size
    if inversion.templates is not None:
        prompts = min(prompts, inversion.templates, len(settings.spoken.templates))
    return {
        "tokens_tried": len(sweep),
        "tokens_checked": edited,
        "step_samples": samples,
        "drawing_samples": drawing,
        "decoded": drawn,
        "encoded": 1,
        "step_prompts": steps * prompts,
        "prompts": len(sweep) + (edited if settings.in_distribution.check == "editability" else 0),
        "judged": 1 + sum(a["redraws"] for a in sweep),
    }


def filled(occupancy: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Places in passes for each that held what a verdict waited for, of training and of redraws; 1 where
    nothing is known."""
    total = {key: sum(one[key] for one in occupancy) for key in ("lanes", "in_hand", "redraws", "drawn")}
    return {
        "training": total["lanes"] / total["in_hand"] if total["in_hand"] else 1.0,
        "drawing": total["redraws"] / total["drawn"] if total["drawn"] else 1.0,
    }


def unet_flops(counted: Counts, places: Mapping[str, float], flops: Flops) -> float:
    """Operations of the UNet for an image, with what filled up short passes."""
    training = counted.step_samples * places["training"] * flops.step
    return training + counted.drawing_samples * places["drawing"] * flops.forward
