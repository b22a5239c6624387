"""Measured counts of work (``make bench``), and predictions from them for different images or models.

The file is one JSON object. For each preset it contains the mean counts of an image, the number of images,
and all settings that they were measured under::

    {"laptop": {"counts": {"tokens_tried": 1.9, "step_samples": 912.0, ...}, "images": 60, "settings": {...}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from originality.contract.config import Frozen, SettingsError
from originality.cost.operations import BatchSlots, Counts, protocol_counts
from originality.settings.audit import AuditSettings
from originality.settings.roles import Decides, nested, paths

SHIPPED = Path(__file__).with_name("counts.json")
"""Counts measured with the model that ships. The file is part of the package."""


class Measured(Frozen):
    """Counts measured under one preset."""

    counts: Counts
    """Mean over the images."""
    images: int = Field(ge=1)
    settings: AuditSettings
    places: BatchSlots = BatchSlots()
    """Batch slots spent per slot counted."""


def read(file: Path = SHIPPED) -> dict[str, Measured]:
    """Read the measured counts, by preset.

    Raises:
        SettingsError: the file cannot be read, or does not contain counts.
    """
    if file == SHIPPED and not file.exists():
        return {}
    try:
        return TypeAdapter(dict[str, Measured]).validate_json(file.read_bytes())
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise SettingsError(
            f"{file} does not contain measured counts ({where or 'JSON'}: {problem['msg']}); write it with "
            "make bench"
        ) from error


def write(measured: Mapping[str, Measured], file: Path = SHIPPED) -> None:
    """Write a file that :func:`read` reads."""
    rows = {preset: of.model_dump(mode="json") for preset, of in measured.items()}
    file.write_text(json.dumps(rows, indent=2) + "\n")


def known(measured: Mapping[str, Measured], settings: AuditSettings) -> Measured | None:
    """The counts measured under settings that ask for the same work. Of several, those with the fewest
    differences, then those of most images. None if there are none."""
    method = _method(settings)
    same = [of for of in measured.values() if _method(of.settings) == method]
    return min(same, key=lambda of: (len(differences(of, settings)), -of.images), default=None)


def _method(settings: AuditSettings) -> dict[str, Any]:
    """The settings that decide the amount of work. Counts apply only to equal ones; the others may differ."""
    decisive = nested((path, True) for path in paths(AuditSettings, Decides.COST))
    return settings.model_dump(mode="json", include=decisive)


def differences(measured: Measured, settings: AuditSettings) -> list[str]:
    """Differences from the settings measured under that may change how many tokens images need:
    "redraw.steps 35 in place of 50"."""

    def of(of_whom: AuditSettings, path: str) -> Any:
        value: Any = of_whom
        for name in path.split("."):
            value = getattr(value, name)
        return value

    named = paths(AuditSettings, Decides.TOKENS_NEEDED)
    pairs = ((path, of(settings, path), of(measured.settings, path)) for path in named)
    return [f"{path} {here!s} in place of {there!s}" for path, here, there in pairs if here != there]


def carried_over(measured: Measured, settings: AuditSettings) -> Counts:
    """Predict the counts for these settings.

    It assumes that as many numbers of tokens are tried and checked as measured, and that each part does the
    same share of the work that this allows.
    """
    tokens = measured.counts.tokens_tried, measured.counts.tokens_checked
    there, here = protocol_counts(measured.settings, *tokens), protocol_counts(settings, *tokens)

    def share(name: str) -> float:
        most: float = getattr(there, name)
        return float(getattr(measured.counts, name)) / most * float(getattr(here, name)) if most else 0.0

    return Counts(**{name: share(name) for name in Counts.model_fields})


def origin_of_counts(measured: Measured, settings: AuditSettings, family: str | None = None) -> str:
    """State where predicted counts come from: "as measured" only for equal settings and the same model. A
    ``family`` means that the model is a different one."""
    model = f"{measured.images} images with the model {measured.settings.model.path!r}"
    if family or differences(measured, settings):
        return f"carried over from what {model} took"
    return f"as measured on {model}"


@dataclass(frozen=True)
class Assumptions:
    """The assumptions of a predicted cost, in words."""

    lines: tuple[str, ...]

    @classmethod
    def of(cls, settings: AuditSettings, measured: Measured | None) -> Assumptions:
        """``measured``: the source of the counts; None if they follow from the settings only."""
        return cls(
            (*(_of_bound(settings) if measured is None else _of_carrying(settings, measured)), *_COUNTED)
        )

    def __str__(self) -> str:
        return "\n".join(f"- {line}" for line in self.lines)


_COUNTED = (
    "a multiplication and an addition are two operations; only products of matrices and convolutions are "
    "counted, not norms, activations, samplers and the optimiser",
    "attention costs its plain matrix products, and no part of the UNet is computed twice "
    "(model.gradient_checkpointing)",
    "the check's detector, and CLIP where it chooses words, cost nothing",
    "each image is judged once: none fails, and no work is lost with a machine",
)


def _of_bound(settings: AuditSettings) -> tuple[str, ...]:
    return (
        "nothing was measured under these settings: the two ends are one number of tokens for all images and "
        f"{settings.max_tokens} for all",
        "nothing stops early: every number of tokens takes all steps, all redraws and all edit images",
        "each step reads as many different prompts as it may",
        "passes contain only samples that verdicts need: no padding, and no number of tokens trained ahead "
        "(inversion.ahead)",
    )


def _of_carrying(settings: AuditSettings, measured: Measured) -> tuple[str, ...]:
    tried, checked = measured.counts.tokens_tried, measured.counts.tokens_checked
    lines = [
        f"these images try as many numbers of tokens ({tried:.3g} in the mean, {checked:.3g} of them "
        f"checked) as the {measured.images} images that were measured: they are as original to the model",
    ]
    if measured.places != BatchSlots():
        lines.append(
            f"passes are as full: there are {measured.places.training:.3g} batch slots in training and "
            f"{measured.places.drawing:.3g} in drawing for each that a verdict needs"
        )
    if otherwise := differences(measured, settings):
        lines.append(f"this also holds with {', '.join(otherwise)}")
        there, here = protocol_counts(measured.settings, tried, checked), measured.counts
        shares = {
            "inversion": (here.step_samples, there.step_samples),
            "drawing": (here.drawing_samples, there.drawing_samples),
            "metric": (here.judged, there.judged),
        }
        listed = ", ".join(f"{name} {a / b:.0%}" for name, (a, b) in shares.items())
        lines.append(
            f"inversions and evaluations stop at the same share of what the settings allow ({listed})"
        )
    return tuple(lines)
