"""Files of DreamSim's weights: which ones a branch needs, and whether they match their digests.

A folder of weights has the layout of the archives that DreamSim's authors publish::

    checkpoints/dino_vitbase16_pretrain.pth              DINO's backbone, as its own hub fetches it
    clip_vitb16_pretrain.pth.tar                         (clip_vitb32 for that branch alone)
    open_clip_vitb16_pretrain.pth.tar                    (open_clip_vitb32 likewise)
    ensemble_lora/adapter_config.json, adapter_model.*   LoRA; a single network's is in NAME_single_lora
    digests.json                                         sha256 of each file, by its path

so a ``cache_dir`` that the dreamsim package has filled on a connected machine is such a folder already.
:mod:`.dreamsim_fetch` fills one with all of these, and with the files that only the package needs.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal, get_args

from originality.contract import outline
from originality.contract.config import SettingsError
from originality.contract.faults import is_machine_fault
from originality.contract.node_cache import cache_path, sha256

Branch = Literal["ensemble", "dino_vitb16", "clip_vitb32", "open_clip_vitb32"]
"""The published ensemble of three networks, and the networks that were tuned singly."""

BRANCHES: tuple[Branch, ...] = get_args(Branch)

DINO = "checkpoints/dino_vitbase16_pretrain.pth"

BACKBONES: dict[Branch, tuple[str, ...]] = {
    "ensemble": (DINO, "clip_vitb16_pretrain.pth.tar", "open_clip_vitb16_pretrain.pth.tar"),
    "dino_vitb16": (DINO,),
    "clip_vitb32": ("clip_vitb32_pretrain.pth.tar",),
    "open_clip_vitb32": ("open_clip_vitb32_pretrain.pth.tar",),
}

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

DIGESTS = "digests.json"
"""File with the sha256 of each file by its path, in a folder filled by :mod:`.dreamsim_fetch`."""

FORMATS = (".json", ".safetensors", ".bin", ".pth", ".tar")
"""Suffixes of the files. Pickles are read as tensors only, see :mod:`.dreamsim`."""


def adapter_folder(branch: Branch) -> str:
    """The folder of the branch's LoRA weights, relative to the weights' folder."""
    return "ensemble_lora" if branch == "ensemble" else f"{branch}_single_lora"


def parts_of(branch: Branch) -> tuple[str, ...]:
    """Files and folders that a branch needs at the top level of the weights' folder."""
    return (adapter_folder(branch), *(name.partition("/")[0] for name in BACKBONES[branch]))


def files_of(folder: Path, branch: Branch) -> list[Path]:
    """The files of a branch in a folder; each exists, or is listed in the folder's outline.

    Raises:
        SettingsError: files are missing, which it names.
    """
    lora, absent = folder / adapter_folder(branch), {folder / name for name in outline.absent(folder)}

    def found(file: Path) -> bool:
        return file in absent or file.is_file()

    weights = next((lora / name for name in ADAPTER_WEIGHTS if found(lora / name)), None)
    files = [folder / name for name in BACKBONES[branch]] + [lora / ADAPTER_CONFIG]
    missing = [str(f.relative_to(folder)) for f in files if not found(f)]
    if weights is None:
        missing.append(f"{adapter_folder(branch)}/{ADAPTER_WEIGHTS[0]}")
    if missing or weights is None:
        raise SettingsError(
            f"DreamSim's folder {folder} lacks {', '.join(missing)}: fill it on a connected machine "
            f"({how_to_fetch(branch, folder)}) and copy it here, or set distance.metric to imagenet, which "
            "needs no download"
        )
    return [*files, weights]


def how_to_fetch(branch: Branch, to: Path | str) -> str:
    """The command that fills a folder with a branch's weights."""
    return f"originality models fetch dreamsim --branch {branch} --to {to}"


def digests_in(folder: Path) -> dict[str, str]:
    """The sha256 of the folder's files by path, from its digests.json; empty if it has none.

    Raises:
        SettingsError: digests.json cannot be read.
    """
    try:
        digests = json.loads((folder / DIGESTS).read_text())
        return {str(path): str(digest) for path, digest in digests.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        if is_machine_fault(error):
            raise
        raise SettingsError(f"{folder / DIGESTS} is damaged: fetch or copy that folder again") from error


def check(folder: Path, branch: Branch) -> list[Path]:
    """The files of a branch, after those with a digest in the folder were checked against it.

    Raises:
        SettingsError: a file is missing, or does not match its digest.
    """
    files, digests = files_of(folder, branch), digests_in(folder)
    for file in files:
        name = file.relative_to(folder).as_posix()
        if name in digests and sha256(file) != digests[name]:
            raise SettingsError(
                f"DreamSim's file {file} does not match its digest in {DIGESTS}, it is damaged or from a "
                f"different version: copy it again, or on a connected machine run "
                f"{how_to_fetch(branch, folder)}"
            )
    return files


def digest_of(folder: Path, branch: Branch) -> str:
    """sha256 of the names and contents of a branch's files; reads 0.3 to 1.1 GB."""
    total = hashlib.sha256()
    for path in sorted(files_of(folder, branch)):
        name = path.relative_to(folder).as_posix()
        total.update(f"{name} {outline.digest_of(folder, name)}\n".encode())
    return total.hexdigest()


def cache_folder() -> Path:
    """Folder for weights if no setting names one."""
    return cache_path() / "dreamsim"
