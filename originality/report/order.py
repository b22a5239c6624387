"""Order of the images, selection of those that can be browsed, and the histogram of min tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

FIRST = 20
"""Images that the page itself holds, with their pictures, if the run has more than WHOLE. Our choice: the
page stays at about 2 MB and prints on a few sheets."""

WHOLE = 50
"""Up to this number of images the page holds all of them and needs no other file. Our choice: about 5 MB,
which can still be sent by mail."""

LISTED = 100_000
"""Largest number of images that can be browsed. Our choice: their rows are about 8 MB, which a browser reads
and sorts in about a second."""

Group = Literal["never", "redrawn", "rejected", "failed"]
"""Filter of the page: "never" is judged and censored, "redrawn" is judged with min tokens."""

GROUPS: tuple[Group, ...] = ("never", "redrawn", "rejected", "failed")
"""All groups, in the order of the page."""


def group_of(status: Literal["judged", "rejected", "failed"], min_tokens: int | None) -> Group:
    """Group of the report's overview, by status and verdict."""
    if status == "judged":
        return "never" if min_tokens is None else "redrawn"
    return status


@dataclass(frozen=True)
class Marks:
    """What images are counted and ordered by, as arrays: 13 bytes per image, as there may be millions."""

    group: np.ndarray
    """int8: index in GROUPS."""
    tokens: np.ndarray
    """int32: min tokens; 0 if there are none."""
    distance: np.ndarray
    """float64: mean distance at the last number of tokens tried; NaN if unknown."""

    @classmethod
    def of(cls, given: Sequence[tuple[Group, int | None, float | None]]) -> Marks:
        """Marks of images, each with its group, min tokens and distance."""
        groups = [GROUPS.index(group) for group, _, _ in given]
        tokens = [tokens or 0 for _, tokens, _ in given]
        distances = [np.nan if distance is None else distance for _, _, distance in given]
        return cls(np.array(groups, np.int8), np.array(tokens, np.int32), np.array(distances, np.float64))

    @classmethod
    def joined(cls, parts: Sequence[Marks]) -> Marks:
        """Marks of all images of the parts, in their order."""
        parts = [
            cls.of([]),
            *parts,
        ]  # an empty part first, so that no parts give empty arrays of the right types
        return cls(
            np.concatenate([part.group for part in parts]),
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.distance for part in parts]),
        )

    def take(self, places: np.ndarray) -> Marks:
        """Marks of the images at these places, int64 (k,)."""
        return Marks(self.group[places], self.tokens[places], self.distance[places])

    @property
    def judged(self) -> int:
        """Number of images with a verdict."""
        return int(np.count_nonzero(self.group < GROUPS.index("rejected")))

    def counts(self) -> Counter[Group]:
        """Number of images by group."""
        return Counter({g: int(n) for g, n in zip(GROUPS, np.bincount(self.group, minlength=4), strict=True)})


def by_originality(marks: Marks) -> np.ndarray:
    """Indices of images, most original first: censored, then M to 1 tokens, then by falling distance.

    Images without a distance follow those with one; rejected and failed images come last. The sort is stable.
    """
    return np.lexsort((np.nan_to_num(-marks.distance, nan=np.inf), -marks.tokens, marks.group))


def listed(marks: Marks, limit: int = LISTED) -> np.ndarray:
    """Indices of the images that can be browsed, most original first.

    Above the limit, these are equally many of the most and the least original images, so that sorting in
    either direction starts with the right ones; up to half are images that were not judged, spread evenly
    over them.
    """
    order = by_originality(marks)
    judged = order[: marks.judged]
    problems = order[marks.judged :]
    room = min(len(problems), max(limit // 2, limit - len(judged)))
    problems = problems[evenly(len(problems), room)]
    room = min(len(judged), limit - len(problems))
    return np.concatenate([judged[: room - room // 2], judged[len(judged) - room // 2 :], problems])


def evenly(count: int, limit: int) -> np.ndarray:
    """At most ``limit`` of ``count`` indices, evenly spaced, with the first and the last one."""
    if limit < 2:
        return np.arange(min(count, limit))
    return np.linspace(0, count - 1, min(count, limit)).round().astype(int)


@dataclass(frozen=True)
class Histogram:
    """Number of judged images by min tokens."""

    tokens: tuple[int, ...]
    """Images by min tokens, from 1 to M."""
    never: int
    """Censored images, which no number up to M redrew: "+" in the paper's Figure 6."""

    @property
    def max_tokens(self) -> int:
        """Largest number of tokens that was tried."""
        return len(self.tokens)


def histogram(marks: Marks, max_tokens: int | None) -> Histogram:
    """Histogram over all images, shown or not. M is that of the settings, or larger if an image needed it."""
    found = np.bincount(marks.tokens[marks.group == GROUPS.index("redrawn")], minlength=1 + (max_tokens or 1))
    return Histogram(tuple(int(n) for n in found[1:]), marks.counts()["never"])
