"""Folders of networks as transformers' ``save_pretrained`` writes them.

They are read from disk, never from the hub, and only in formats that run no code when they are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container
from pathlib import Path
from typing import Any

import torch

from originality.contract.config import SettingsError
from originality.contract.node_cache import sha256
from originality.model import loading
from originality.model.file_damage import bad_words, damage
from originality.model.library_errors import library_errors

WEIGHTS = "model.safetensors"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Either file states how an image is prepared."""
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""Either set of files holds the vocabulary."""
PARTS = (
    *("config.json", WEIGHTS, *PROCESSORS),
    *(name for names in TOKENIZERS for name in names),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
"""Files that are read of such a folder; it has no subfolders."""
CLIP_WITH_WEIGHTS = "openai/clip-vit-large-patch14 @32bd64288804d66eefd0ccbe215aa642df71cc41"
"""A CLIP of the hub, at a commit with safetensors; old commits of openai/clip-vit-base-patch32 have none."""


def checked_folder(folder: Path, kinds: Container[str], wanted: str, *, words: bool = False) -> Path:
    """Check that a folder holds a network of one of these kinds, with all its files; return the folder.

    Args:
        kinds: values of "model_type" in transformers' config.json ("clip", "detr", ...).
        wanted: describes the kinds, for a message.
        words: whether a tokenizer is required.

    Raises:
        SettingsError: the network is of a different kind, or a file is missing or damaged.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise SettingsError(
            f"there is no folder {folder}; give one as transformers' save_pretrained writes it"
        )
    if not (folder / "config.json").exists():
        raise SettingsError(
            f"folder {folder} has no config.json; give one as transformers' save_pretrained writes it"
        )
    with library_errors(f"folder {folder}"):
        for file in (folder / name for name in PARTS):
            if (file.exists() or file.is_symlink()) and (found := damage(file)):
                raise SettingsError(f"folder {folder} cannot be used: {file} {found}")
    with library_errors(f"folder {folder}"):
        kind = str(json.loads((folder / "config.json").read_text())["model_type"])
    if kind not in kinds:
        raise SettingsError(
            f"folder {folder} holds a network of kind {kind!r}, but {wanted} is needed; use another folder"
        )
    if not (folder / WEIGHTS).exists():
        raise SettingsError(
            f"folder {folder} has no {WEIGHTS}; pickled weights and shards are not loaded: save the "
            "network anew with transformers' save_pretrained, in one piece"
            + (f", or take {CLIP_WITH_WEIGHTS}" if kind == "clip" else "")
        )
    if not any((folder / name).exists() for name in PROCESSORS):
        raise SettingsError(
            f"folder {folder} has no {PROCESSORS[0]}; add that file of the network's page on the hub"
        )
    if words and not any(all((folder / name).exists() for name in names) for names in TOKENIZERS):
        raise SettingsError(
            f"folder {folder} has no tokenizer; add tokenizer.json, or vocab.json and merges.txt, of the "
            "network's page on the hub"
        )
    with library_errors(f"folder {folder}"):
        if words and (found := bad_words(folder)):
            raise SettingsError(f"folder {folder}: {found}")
    return folder


def load_network(loader: Any, folder: Path, device: str | torch.device, variant: str | None = None) -> Any:
    """Load a network in fp32; see :func:`originality.model.loading.load_network`.

    Raises:
        SettingsError: the weights are damaged or incomplete.
    """
    with library_errors(f"folder {folder}"):
        return loading.load_network(loader, folder, device, variant=variant, trust_remote_code=False)


def load_processor(loader: Any, folder: Path) -> Any:
    """Load an image processor or a tokenizer.

    Raises:
        SettingsError: it cannot be read.
    """
    with library_errors(f"folder {folder}"):
        return loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def digest_of(folder: Path) -> str:
    """sha256 of all files that are read. Digests of verdicts contain it: order and form must not change."""
    digest = hashlib.sha256()
    for name in sorted(PARTS):
        if (folder / name).exists():
            digest.update(f"{name}\0".encode() + bytes.fromhex(sha256(folder / name)))
    return digest.hexdigest()
