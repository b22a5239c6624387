"""Which files of a model are copied to a node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from originality.contract.weight_variants import SUFFIX, weights_among

SMALL = (".json", ".txt", ".model")
SAFE = (SUFFIX, *SMALL)
"""Suffixes of what is taken of a model: nothing that runs code when it is read, as pickles may."""


@dataclass(frozen=True)
class Wanted:
    """Which files are brought."""

    parts: Sequence[str]
    """Names of files and folders at the top."""
    suffixes: Sequence[str] = SAFE
    variant: str = "none"
    """Of the weights: see originality.contract.weight_variants."""

    def among(self, paths: Iterable[str]) -> set[str]:
        """The paths that are wanted, of all that there are."""
        folders = defaultdict(list)
        for path in paths:
            if path.split("/")[0] in self.parts and Path(path).suffix in self.suffixes:
                folder, _, name = path.rpartition("/")
                folders[folder].append(name)
        chosen = set()
        for folder, names in folders.items():
            used = weights_among(names, self.variant).names
            chosen |= {f"{folder}/{n}".lstrip("/") for n in names if not n.endswith(SUFFIX) or n in used}
        return chosen
