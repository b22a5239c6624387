"""Which image comes first, which can be browsed, and how many need how many tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

FIRST = 20
"""Images that the page itself holds, with their pictures, when the run has many. Our choice: the page stays
at some 2 MB, and what a printer gets at a few sheets."""

WHOLE = 50
"""Up to so many images the page holds all of them and needs no other file. Our choice: some 5 MB, which can
still be sent by mail."""

LISTED = 100_000
"""Images that can be browsed, at most. Our choice: their rows are some 8 MB, which a browser still reads and
sorts in about a second."""

Group = Literal["never", "redrawn", "rejected", "failed"]
"""What a reader filters by: "never" is judged and censored, "redrawn" judged with a number of tokens."""

GROUPS: tuple[Group, ...] = ("never", "redrawn", "rejected", "failed")
"""In the order of the page."""


def group_of(status: Literal["judged", "rejected", "failed"], min_tokens: int | None) -> Group:
    if status == "judged":
        return "never" if min_tokens is None else "redrawn"
    return status


@dataclass(frozen=True)
class Marks:
    """What images are counted and ordered by: an entry an image, 13 bytes, as there may be millions."""

    group: np.ndarray
    """int8, within GROUPS."""
    tokens: np.ndarray
    """int32: min_tokens; 0 where there is none."""
    distance: np.ndarray
    """float64: mean distance at the last number of tokens tried; NaN where it is not known."""

    @classmethod
    def of(cls, given: Sequence[tuple[Group, int | None, float | None]]) -> Marks:
        groups = [GROUPS.index(group) for group, _, _ in given]
        tokens = [tokens or 0 for _, tokens, _ in given]
        distances = [np.nan if distance is None else distance for _, _, distance in given]
        return cls(np.array(groups, np.int8), np.array(tokens, np.int32), np.array(distances, np.float64))

    @classmethod
    def joined(cls, parts: Sequence[Marks]) -> Marks:
        whole = [cls.of([]), *parts]
        return cls(
            np.concatenate([part.group for part in whole]),
            np.concatenate([part.tokens for part in whole]),
            np.concatenate([part.distance for part in whole]),
        )

    def take(self, places: np.ndarray) -> Marks:
        return Marks(self.group[places], self.tokens[places], self.distance[places])

    @property
    def judged(self) -> int:
        return int(np.count_nonzero(self.group < GROUPS.index("rejected")))

    def counts(self) -> Counter[Group]:
        """Images by group."""
        return Counter({g: int(n) for g, n in zip(GROUPS, np.bincount(self.group, minlength=4), strict=True)})


def by_originality(marks: Marks) -> np.ndarray:
    """Places, most original first: never redrawn, then M..1 tokens; among equals the farther redraw first.

    Images without a distance follow those with one; rejected and failed images come last. What is equal in
    all of this stays in the order given.
    """
    return np.lexsort((np.nan_to_num(-marks.distance, nan=np.inf), -marks.tokens, marks.group))


def listed(marks: Marks, limit: int = LISTED) -> np.ndarray:
    """Places of the images that can be browsed, most original first.

    Above the limit these are as many of the most original as of the best known, so that sorting either way
    begins with the right ones; and, in up to half of the places, images that were not judged, spread evenly
    over their kinds.
    """
    order = by_originality(marks)
    judged = order[: marks.judged]
    problems = order[marks.judged :]
    room = min(len(problems), max(limit // 2, limit - len(judged)))
    problems = problems[evenly(len(problems), room)]
    room = min(len(judged), limit - len(problems))
    return np.concatenate([judged[: room - room // 2], judged[len(judged) - room // 2 :], problems])


def evenly(count: int, limit: int) -> np.ndarray:
    """At most ``limit`` of ``count`` places, first and last among them, as far apart as possible."""
    if limit < 2:
        return np.arange(min(count, limit))
    return np.linspace(0, count - 1, min(count, limit)).round().astype(int)


@dataclass(frozen=True)
class Histogram:
    """How many judged images need how many tokens."""

    tokens: tuple[int, ...]
    """Images by number of tokens, from 1 to M."""
    never: int
    """Images that no number up to M redrew: "+" in the paper's Figure 6."""

    @property
    def max_tokens(self) -> int:
        return len(self.tokens)


def histogram(marks: Marks, max_tokens: int | None) -> Histogram:
    """Counts all images, whether shown or not. M is the settings', or more where an image needed more."""
    found = np.bincount(marks.tokens[marks.group == GROUPS.index("redrawn")], minlength=1 + (max_tokens or 1))
    return Histogram(tuple(int(n) for n in found[1:]), marks.counts()["never"])
