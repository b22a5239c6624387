"""Verdicts of held-out images of each rarity under every variant: long work, that resumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from originality.experiments.held_out import Query, measure, queries
from originality.settings.audit import AuditSettings
from originality.settings.presets import load_settings
from originality.sweep.sweep import Sweep

GROUPS = ("familiar", "rare", "unseen")
FIRST, MOTIFS = 10, 20
"""Number of each group's first image, and of its motifs, which come by turns: settings were chosen on the
first ten of them (originality.bench.learning, docs/effect/README.md)."""


@dataclass(frozen=True)
class Variant:
    """Settings under which images are judged."""

    name: str
    says: str
    """What it is, for the table."""
    preset: str = "fast-shapes"
    flags: Mapping[str, Any] = field(default_factory=dict)
    """Over the preset."""
    images: int = 4
    """Of each group."""
    seeds: tuple[int, ...] = (3,)

    def settings(self, seed: int) -> AuditSettings:
        return load_settings(self.preset, None, {**self.flags, "seed": seed})

    def asked(self) -> list[Query]:
        return queries(GROUPS, range(FIRST, FIRST + self.images))


def untouched(image_id: str) -> bool:
    """Whether no setting was chosen on the image's motif."""
    return int(image_id.rpartition(" ")[2]) % MOTIFS >= FIRST


def _inversion(**settings: Any) -> dict[str, Any]:
    return {"inversion": settings}


PAPER = Variant("paper", "the published protocol", "paper-shapes", images=4, seeds=(0, 1))
REDUCED = Variant(
    "reduced",
    "a quarter of its steps, four times as large",
    "paper-shapes",
    _inversion(steps=500, learning_rate=2e-3, lanes=8),
    images=12,
    seeds=(2,),
)
FAST = Variant("fast", "the preset", images=20, seeds=(3, 4, 5))
"""As a seed decides the noise of redraws whatever else is set, references have seeds that nothing else has:
what agrees with them then does not owe it to that. Without one of its parts it has the preset's first."""

WITHOUT = (
    Variant("uniform", "timesteps drawn independently", flags=_inversion(timesteps="uniform")),
    Variant("all-templates", "each sample its own template", flags=_inversion(templates=None)),
    Variant("no-cooldown", "stopped at its full learning rate", flags=_inversion(cooldown=0)),
    Variant("no-stop", "all steps", flags=_inversion(stop="never")),
    Variant(
        "no-cycle", "every step draws anew, and all are taken", flags=_inversion(stop="never", cycle=None)
    ),
    Variant("whole", "all 20 redraws of every word", flags={"redraw": {"round": None}}),
    Variant("pndm", "50 steps of PNDM for each redraw", flags={"redraw": {"scheduler": "pndm", "steps": 50}}),
    Variant("not-ahead", "repeats where nothing waits for a place", flags=_inversion(ahead=False)),
    Variant("apart", "each round of redraws in a pass of its own", flags={"redraw": {"together": None}}),
)
"""The preset less one of its parts."""

VARIANTS = {v.name: v for v in (PAPER, REDUCED, FAST, *WITHOUT)}


def results_of(folder: Path, variant: Variant, seed: int) -> Path:
    """The file of a variant's verdicts."""
    return folder / f"{variant.name}-{seed}.jsonl"


def run(variant: Variant, seed: int, folder: Path) -> None:
    """Judge the images that have no line yet."""
    measure(Sweep(variant.settings(seed)), variant.asked(), results_of(folder, variant, seed))
