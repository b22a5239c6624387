"""A model folder as the Hugging Face hub has them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.tiny_models import FAMILIES


@pytest.fixture(scope="session")
def hub_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SD1 whose tokenizer is the pair vocab.json and merges.txt. Tests change copies only."""
    folder = FAMILIES["sd1"](tmp_path_factory.mktemp("sd1") / "model")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(Path("originality/weights/shapes/tokenizer") / name, folder / "tokenizer")
    return folder
