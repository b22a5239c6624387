"""Which image comes first, which are shown whole, and how many need how many tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

DETAIL_LIMIT = 200
"""Judged images shown with pictures. Our choice: about 20 MB of page at 100 kB an
image."""

PROBLEM_LIMIT = 50
"""Rejected and failed images shown with what to do; the table names the reason of the others."""

TABLE_LIMIT = 5000
"""Rows of the table. Our choice: what a browser still sorts at once."""

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


def chosen(
    judged: int, problems: int, limit: int = DETAIL_LIMIT, problem_limit: int = PROBLEM_LIMIT
) -> list[int]:
    """The images that the page shows whole, as places in the order of originality, spread evenly over it.

    Problems have a limit of their own, so that many of them do not crowd out what was judged.
    """
    return evenly(judged, limit) + [judged + place for place in evenly(problems, problem_limit)]


def evenly(count: int, limit: int) -> list[int]:
    """At most ``limit`` of ``count`` places, first and last among them, as far apart as can be."""
    if count <= limit:
        return list(range(count))
    if limit < 2:
        return list(range(limit))
    return [round(i * (count - 1) / (limit - 1)) for i in range(limit)]


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
