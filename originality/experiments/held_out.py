"""Held-out images of every rarity for the shipped model, and a loop that judges them.

Each judged image is one line of a file, so that an interrupted run resumes with the remaining images; an
image whose sweep was interrupted resumes from its last snapshot.
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
"""Part of the held-out images' random key. Training uses other keys, whatever its seed."""

SNAPSHOT_SECONDS = 60.0

PAIRS = CommonRareUnseenSet()

COUNTS = {"one element": 1, "two elements": 2, "three elements": 3, "four elements": 4}
"""Groups of images with this many elements, none of them a pair of the three groups of pairs."""


def query(group: str, number: int, pairs: CommonRareUnseenSet = PAIRS) -> Scene:
    """Image ``number`` of a group, with all of its elements visible.

    It is drawn independently of all training images, but can be equal to one where little varies, as with
    common pairs at a fixed place (nine pictures). A motif group goes through its motifs in turn; a pair
    group, of the set ``pairs``, varies the colours; a group of a number of elements varies everything.

    Raises:
        RuntimeError: no draw shows all elements.
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
    raise RuntimeError(f"no image {number} of {group} with all elements visible in 1000 draws")


@dataclass(frozen=True)
class Query:
    """A held-out image."""

    group: str
    number: int

    @property
    def image_id(self) -> str:
        """Key of the image's random numbers and its name in results: group and number."""
        return f"{self.group} {self.number}"

    @cached_property
    def scene(self) -> Scene:
        """What the image shows."""
        return query(self.group, self.number)


def queries(groups: Sequence[str], numbers: Iterable[int], part: str = "1/1") -> list[Query]:
    """Held-out images with these numbers, the groups in turn; for part "k/n" every nth, from the kth on."""
    k, n = map(int, part.split("/"))
    return [Query(group, number) for number in numbers for group in groups][k - 1 :: n]


def measure(sweep: Sweep, chosen: Sequence[Query], results: Path) -> list[dict[str, Any]]:
    """Judge the images that have no line in ``results`` yet.

    Beside its verdict a line holds "places": the batch slots of all passes since the line before. Images
    share passes, so only the sum over many lines is meaningful.

    Returns:
        All lines of the sweep's settings.
    """
    key = {**preflight(sweep.settings), "settings_digest": sweep.settings.digest()}
    rows = kept(results, key)
    done = {r["image_id"] for r in rows}
    waiting = [q for q in chosen if q.image_id not in done]
    total, in_flight = len(waiting) + len(done), _InFlight(results, sweep)
    written = Counter[str]()  # batch slots in the lines that this process wrote
    while waiting or in_flight.queries:
        while waiting and len(in_flight.queries) < sweep.capacity:
            in_flight.admit(waiting.pop(0))
        for finished in sweep.step():
            own = in_flight.queries[finished.item_id]
            places = in_flight.places(written)
            written.update(places)
            about = {"group": own.group, "caption": own.scene.caption, "places": places}
            rows.append({**finished.record, **about, **key})
            keep(results, rows[-1])
            in_flight.forget(finished.item_id)
            print(f"{len(rows)}/{total} {_result_line(rows[-1])}", flush=True)
        in_flight.keep(written)
    return rows


def _result_line(row: dict[str, Any]) -> str:
    """One line about a judged image, for the terminal."""
    means = [a["distance_mean"] for a in row["sweep"]]
    distances = " ".join("failed" if m is None else f"{m:.2f}" for m in means)
    fewest = row["min_tokens"] or ("+" if row["status"] == "judged" else row["status"])
    return f"{row['image_id']}: {fewest} ({distances})"


class _InFlight:
    """Images whose sweeps are unfinished, with their snapshots in a folder beside the results file."""

    def __init__(self, results: Path, sweep: Sweep) -> None:
        self.queries: dict[str, Query] = {}
        self._sweep, self._folder, self._saved_at = sweep, results.with_suffix(".in-flight"), time.monotonic()
        self._previous = Counter[str]()
        with suppress(FileNotFoundError):
            self._previous.update(json.loads(self._place("places").read_text()))

    def _place(self, image_id: str) -> Path:
        return self._folder / f"{image_id} {self._sweep.settings.digest()}"

    def admit(self, new: Query) -> None:
        item = Item(new.image_id, new.scene.image())
        self.queries[new.image_id] = new
        with suppress(FileNotFoundError, ValueError):
            self._sweep.restore(item, self._place(new.image_id).read_bytes())
            return
        self._sweep.admit(item)

    def places(self, written: Counter[str]) -> dict[str, int]:
        """Batch slots not yet written to a line, including those of an interrupted process before."""
        return {
            kind: now + self._previous[kind] - written[kind]
            for kind, now in asdict(self._sweep.slots).items()
        }

    def forget(self, image_id: str) -> None:
        del self.queries[image_id]
        self._place(image_id).unlink(missing_ok=True)
        self._place("places").unlink(missing_ok=True)  # the line just written includes them

    def keep(self, written: Counter[str]) -> None:
        """Write the snapshots if the last ones are old enough."""
        if not self.queries or time.monotonic() - self._saved_at < SNAPSHOT_SECONDS:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = {image_id: self._sweep.snapshot(image_id) for image_id in self.queries}
        for name, content in {**kept, "places": json.dumps(self.places(written)).encode()}.items():
            place = self._place(name)
            new = place.with_suffix(".new")
            new.write_bytes(content)
            new.replace(place)
        self._saved_at = time.monotonic()


def kept(results: Path, key: dict[str, Any]) -> list[dict[str, Any]]:
    """Lines of a results file whose columns include this key: those of the same settings and weights."""
    results.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    return [row for row in rows if key.items() <= row.items()]


def keep(results: Path, row: dict[str, Any]) -> None:
    """Append a line to a results file."""
    with results.open("a") as out:
        out.write(json.dumps(row) + "\n")
