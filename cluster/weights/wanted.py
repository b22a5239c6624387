"""Selects the files of a model that are copied to a node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from originality.contract.weight_variants import SUFFIX, weights_among

SMALL = (".json", ".txt", ".model")
"""Suffixes of small files, which are part of an outline."""
SAFE = (SUFFIX, *SMALL)
"""Suffixes of the files that are fetched: none that can run code when it is read, as a pickle can."""


@dataclass(frozen=True)
class Wanted:
    """The selection of files."""

    parts: Sequence[str]
    """Names of the files and folders at the top level."""
    suffixes: Sequence[str] = SAFE
    variant: str = "none"
    """Variant of the weights; see originality.contract.weight_variants."""

    def select(self, paths: Iterable[str]) -> set[str]:
        """The wanted paths among all paths of a model."""
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
