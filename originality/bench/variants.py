"""Judge held-out images of each rarity under every variant of the settings. Takes hours; resumes."""

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
"""Number of each group's first image, and number of its motifs, which the images go through in turn. Settings
were chosen on images of the first ten motifs (originality.bench.learning, docs/effect/README.md)."""


@dataclass(frozen=True)
class Variant:
    """A named variant of the settings, and the images to judge with it."""

    name: str
    says: str
    """Description for the table."""
    preset: str = "fast-shapes"
    flags: Mapping[str, Any] = field(default_factory=dict)
    """Settings that override the preset's."""
    images: int = 4
    """Number of images in each group."""
    seeds: tuple[int, ...] = (3,)

    def settings(self, seed: int) -> AuditSettings:
        """The audit settings of a run with this seed."""
        return load_settings(self.preset, None, {**self.flags, "seed": seed})

    def queries(self) -> list[Query]:
        """The held-out images to judge."""
        return queries(GROUPS, range(FIRST, FIRST + self.images))


def untouched(image_id: str) -> bool:
    """Whether no setting was chosen on images of this image's motif."""
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
"""The references have seeds that no other variant has. A seed decides the noise of the redraws whatever the
other settings are, and runs that share it agree more often for that reason alone. Variants without a part
have the preset's first seed, as they are compared with the preset itself."""

CONFIRMED = Variant(
    "confirmed",
    "verdicts confirmed to 0.9",
    flags={"redraw": {"confirm": 0.9}},
    images=FAST.images,
    seeds=FAST.seeds,
)
"""The preset with ``--confirm 0.9``. It has the preset's seeds, so that it learns the same words."""

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
"""The preset without one of its parts each."""

VARIANTS = {v.name: v for v in (PAPER, REDUCED, FAST, CONFIRMED, *WITHOUT)}


def results_of(folder: Path, variant: Variant, seed: int) -> Path:
    """The file of a variant's verdicts under one seed."""
    return folder / f"{variant.name}-{seed}.jsonl"


def run(variant: Variant, seed: int, folder: Path) -> None:
    """Judge the images that the results file does not have yet."""
    measure(Sweep(variant.settings(seed)), variant.queries(), results_of(folder, variant, seed))
