"""Measure how many tokens a model needs for common, rare and unseen pairs, or for one to four elements.

Paper Section 5, Appendix E.1.

Every number of tokens is tried on every query image, whether or not a smaller one passed, so that results at
any threshold can be computed from the same measurement.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt

from originality.contract.scorer import Item
from originality.experiments.held_out import query
from originality.experiments.tasks.plans import PairsPlan
from originality.model.device import device_name
from originality.settings.audit import AuditSettings
from originality.settings.local_weights import Copies
from originality.settings.presets import load_settings
from originality.settings.roles import exhaustive, nested
from originality.shapes.image_sets import Scene
from originality.sweep.sweep import Sweep
from originality.training.shapes_model.recipe import Frozen

GROUPS = ("common pair", "rare pair", "unseen pair")

SHOWN = 3
"""Number of images in each group whose redraws are stored as pictures."""


class PairsMeasure(Frozen):
    """A measurement of min tokens of a trained model on query images of some groups."""

    kind: Literal["pairs"]
    name: str
    model: str
    """Id of the model's training, or "shapes" for the shipped model."""
    images: PairsPlan
    """The image set that the model was trained on."""
    groups: tuple[str, ...] = GROUPS
    """Groups as in :func:`originality.experiments.held_out.query`."""
    queries: PositiveInt = 20
    """Images of each group."""
    even_colours: bool = False
    """Whether to take as many pairs of one colour as of two in each group, the first such images. Otherwise,
    of few images, one group may hold mostly pairs of one colour and another mostly pairs of two."""
    preset: str = "laptop"
    over: Mapping[str, Any] = Field(default_factory=dict)
    """Settings that override the preset's."""

    def settings(self) -> AuditSettings:
        """Audit settings under which every number of tokens is measured in full, whatever the preset.

        No distance passes, so that the sweep ends at ``max_tokens``; all redraws are drawn, and the check is
        always made.
        """
        fixed = nested({**exhaustive(AuditSettings), "model.path": self.model}.items())
        parts = {name: {**self.over.get(name, {}), **part} for name, part in fixed.items()}
        return load_settings(self.preset, None, {**self.over, **parts})

    def numbers(self, group: str) -> list[int]:
        """Numbers of a group's query images."""
        if not (self.even_colours and group in GROUPS):
            return list(range(self.queries))
        half = self.queries // 2
        of_one = (n for n in itertools.count() if self._colours(group, n) == 1)
        of_two = (n for n in itertools.count() if self._colours(group, n) == 2)
        return sorted((*itertools.islice(of_one, self.queries - half), *itertools.islice(of_two, half)))

    def scene(self, group: str, number: int) -> Scene:
        """A query image of a group."""
        return query(group, number, self.images.pairs())

    def _colours(self, group: str, number: int) -> int:
        return len({element.colour for element in self.scene(group, number).elements})


class PairsMeasuring:
    """Sweeps over the query images of one model. Implements originality.experiments.tasks.long_task.Work."""

    def __init__(self, plan: PairsMeasure, folder: Path, device: str) -> None:
        """Args:
        folder: the model's folder on this machine.
        """
        self.plan = plan
        settings = plan.settings()
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"device": device})})
        self._sweep = Sweep(settings, Copies(model=folder))
        self._rows: list[dict[str, Any]] = []
        self._files: dict[str, bytes] = {}
        self._flying: list[str] = []
        numbers = {group: plan.numbers(group) for group in plan.groups}
        self._names = [f"{group} {of[k]}" for k in range(plan.queries) for group, of in numbers.items()]
        self._shown = {f"{group} {number}" for group, of in numbers.items() for number in of[:SHOWN]}

    @property
    def phase(self) -> int:
        """Images measured."""
        return len(self._rows)

    def __str__(self) -> str:
        return f"{self.plan.name}: {len(self._rows)}/{len(self._names)} images; {self._sweep.progress}"

    @property
    def done(self) -> bool:
        return len(self._rows) == len(self._names)

    def _scene(self, name: str) -> Scene:
        group, _, number = name.rpartition(" ")
        return self.plan.scene(group, int(number))

    def _item(self, name: str) -> Item[Any]:
        return Item(name, self._scene(name).image())

    def _described(self, scene: Scene) -> float:
        """Mean distance of redraws of the image's own caption: what the model draws from a full
        description."""
        model, settings = self._sweep.model, self._sweep.settings.redraw
        noise = self._sweep.judge.noise(scene.caption, 0, scene.caption, range(settings.count))
        words = model.encode_prompts([scene.caption]).repeat_prompt(len(noise))
        drawn = self._sweep.distance.embed(model.generate(words, noise, settings).checked())
        picture = self._sweep.distance.embed(model.fit(scene.image())[None])[0]
        return round(float(np.mean(self._sweep.distance.between(picture, drawn))), 4)

    def advance(self) -> None:
        measured = {row["image_id"] for row in self._rows}
        waiting = [n for n in self._names if n not in measured and n not in self._flying]
        while waiting and len(self._flying) < self._sweep.capacity:
            self._sweep.admit(self._item(waiting[0]))
            self._flying.append(waiting.pop(0))
        for finished in self._sweep.step():
            self._flying.remove(finished.item_id)
            group, _, number = finished.item_id.rpartition(" ")
            kept = ("image_id", "status", "sweep", "error_class", "error_message")
            row = {name: finished.record[name] for name in kept}
            scene = self._scene(finished.item_id)
            about = {"group": group, "number": int(number), "caption": scene.caption}
            self._rows.append({**row, **about, "described": self._described(scene)})
            if finished.item_id in self._shown:
                for name in ("query.webp", "redraws.webp"):
                    self._files[f"{group.replace(' ', '-')}-{number}-{name}"] = finished.files[name]

    def state(self) -> dict[str, Any]:
        flying = {name: _tensor(self._sweep.snapshot(name)) for name in self._flying}
        files = {name: _tensor(content) for name, content in self._files.items()}
        return {"rows": self._rows, "files": files, "flying": flying}

    def load(self, kept: Mapping[str, Any]) -> None:
        self._rows = list(kept["rows"])
        self._files = {name: bytes(content.numpy()) for name, content in kept["files"].items()}
        for name, snapshot in kept["flying"].items():
            try:
                self._sweep.restore(self._item(name), bytes(snapshot.numpy()))
            except ValueError:  # for example of another kind of machine: start the image again
                self._sweep.admit(self._item(name))
            self._flying.append(name)

    def record(self) -> dict[str, Any]:
        settings = self._sweep.settings.model_dump(mode="json", exclude={"calibration", "domains"})
        return {
            "name": self.plan.name,
            "model": self.plan.model,
            "device": device_name(self._sweep.model.device),
            "model_digest": self._sweep.model.digest,
            "judge_digest": self._sweep.distance.digest(),
            "settings": settings,
            "rows": sorted(self._rows, key=lambda row: (self.plan.groups.index(row["group"]), row["number"])),
        }

    def files(self) -> dict[str, bytes]:
        return self._files


def _tensor(content: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)
