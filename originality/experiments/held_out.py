"""Images that the model that ships was not trained on, of every rarity, and what is found of them.

Each image judged is one line of a file: a run that was cut off goes on with the others, and an image that was
in hand goes on where its last snapshot left it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from originality.contract.scorer import Item
from originality.shapes.image_sets import (
    CommonRareUnseenSet,
    Scene,
    TaughtSet,
    clear_view,
    generator,
    motif_scene,
)
from originality.shapes.motifs import GROUPS
from originality.sweep.preflight import preflight
from originality.sweep.sweep import Sweep

HELD_OUT_SEED = 1
"""Training draws its scenes by other keys, whatever its seed."""

SNAPSHOT_SECONDS = 60.0

PAIRS = CommonRareUnseenSet()

COUNTS = {"one element": 1, "two elements": 2, "three elements": 3, "four elements": 4}
"""Groups of images of so many elements, none of them a pair of the three groups."""


def query(group: str, number: int, pairs: CommonRareUnseenSet = PAIRS) -> Scene:
    """Image ``number`` of a group, all of its elements in plain sight: drawn apart from all training images,
    though it can be equal to one where little varies, as common pairs at a fixed place (nine pictures).

    A motif group has one image of each of its motifs in turn; a pair group, of ``pairs``, varies the colours;
    a group of a number of elements varies all.
    """
    for attempt in range(1000):
        rng = generator("held out", HELD_OUT_SEED, group, number, attempt)
        if group in GROUPS:
            motifs = TaughtSet().motifs_of(group)
            scene = motif_scene(motifs[number % len(motifs)], rng)
        elif group in COUNTS:
            scene = pairs.composed(rng, COUNTS[group])
        else:
            scene = pairs.pair(group.removesuffix(" pair"), rng)
        if clear_view(scene):
            return scene
    raise RuntimeError(f"no clear view of {group} {number} in 1000 draws")


@dataclass(frozen=True)
class Query:
    """A held-out image."""

    group: str
    number: int

    @property
    def image_id(self) -> str:
        return f"{self.group} {self.number}"

    @cached_property
    def scene(self) -> Scene:
        return query(self.group, self.number)


def queries(groups: Sequence[str], numbers: Iterable[int], part: str = "1/1") -> list[Query]:
    """Images of all groups by turns; of part "k/n" every nth, from the kth on."""
    k, n = map(int, part.split("/"))
    return [Query(group, number) for number in numbers for group in groups][k - 1 :: n]


def measure(sweep: Sweep, asked: Sequence[Query], results: Path) -> list[dict[str, Any]]:
    """Judge the images that have no line yet; all lines of the sweep's settings.

    Beside its verdict a line has the "places" in all passes since the line before it: what passes held is
    some other image's too, so that only the sum over many lines says something.
    """
    key = {**preflight(sweep.settings), "settings_digest": sweep.settings.digest()}
    rows = kept(results, key)
    done = {r["image_id"] for r in rows}
    waiting = [q for q in asked if q.image_id not in done]
    total, in_hand = len(waiting) + len(done), _InHand(results, sweep)
    told = Counter[str]()
    while waiting or in_hand.queries:
        while waiting and len(in_hand.queries) < sweep.capacity:
            in_hand.admit(waiting.pop(0))
        for finished in sweep.step():
            own = in_hand.queries[finished.item_id]
            places = in_hand.places(told)
            told.update(places)
            about = {"group": own.group, "caption": own.scene.caption, "places": places}
            rows.append({**finished.record, **about, **key})
            keep(results, rows[-1])
            in_hand.forget(finished.item_id)
            print(f"{len(rows)}/{total} {_told(rows[-1])}", flush=True)
        in_hand.keep(told)
    return rows


def _told(row: dict[str, Any]) -> str:
    means = [a["distance_mean"] for a in row["sweep"]]
    distances = " ".join("failed" if m is None else f"{m:.2f}" for m in means)
    fewest = row["min_tokens"] or ("+" if row["status"] == "judged" else row["status"])
    return f"{row['image_id']}: {fewest} ({distances})"


class _InHand:
    """Images in flight, and their snapshots beside the file of results."""

    def __init__(self, results: Path, sweep: Sweep) -> None:
        self.queries: dict[str, Query] = {}
        self._sweep, self._folder, self._kept_at = sweep, results.with_suffix(".in-flight"), time.monotonic()
        self._before = Counter[str]()
        with suppress(FileNotFoundError):
            self._before.update(json.loads(self._place("places").read_text()))

    def _place(self, image_id: str) -> Path:
        return self._folder / f"{image_id} {self._sweep.settings.digest()}"

    def admit(self, new: Query) -> None:
        item = Item(new.image_id, new.scene.image())
        self.queries[new.image_id] = new
        with suppress(FileNotFoundError, ValueError):
            self._sweep.restore(item, self._place(new.image_id).read_bytes())
            return
        self._sweep.admit(item)

    def places(self, told: Counter[str]) -> dict[str, int]:
        """In passes, also of a process before that was cut off, less those that lines have told of."""
        return {
            kind: now + self._before[kind] - told[kind] for kind, now in asdict(self._sweep.slots).items()
        }

    def forget(self, image_id: str) -> None:
        del self.queries[image_id]
        self._place(image_id).unlink(missing_ok=True)
        self._place("places").unlink(missing_ok=True)  # a line has just told of them

    def keep(self, told: Counter[str]) -> None:
        if not self.queries or time.monotonic() - self._kept_at < SNAPSHOT_SECONDS:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = {image_id: self._sweep.snapshot(image_id) for image_id in self.queries}
        for name, content in {**kept, "places": json.dumps(self.places(told)).encode()}.items():
            place = self._place(name)
            new = place.with_suffix(".new")
            new.write_bytes(content)
            new.replace(place)
        self._kept_at = time.monotonic()


def kept(results: Path, key: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of a file of results that were measured under the same key."""
    results.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    return [row for row in rows if key.items() <= row.items()]


def keep(results: Path, row: dict[str, Any]) -> None:
    with results.open("a") as out:
        out.write(json.dumps(row) + "\n")
