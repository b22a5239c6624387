"""DreamSim's weights: which files a branch needs, where they come from, folders that need no net.

A folder holds what DreamSim's own archives unpack to, and DINO's backbone where ``torch.hub`` keeps
it:

    clip_vitb16_pretrain.pth.tar  open_clip_vitb16_pretrain.pth.tar  (and vitb32 for those branches)
    checkpoints/dino_vitbase16_pretrain.pth
    ensemble_lora/adapter_config.json  ensemble_lora/adapter_model.safetensors  (or .bin)
    <branch>_single_lora/...

so that a ``cache_dir`` which the dreamsim package has filled on a connected machine is such a
folder already. DINO's hub code, which the package wants there too, is not needed: see
:mod:`.dreamsim`.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import urllib.request
import zipfile
from pathlib import Path
from typing import Literal, get_args

from originality.settings import SettingsError

Branch = Literal["ensemble", "dino_vitb16", "clip_vitb32", "open_clip_vitb32"]
"""The published ensemble of three networks, and the single networks that were tuned alone."""

BRANCHES: tuple[Branch, ...] = get_args(Branch)

DINO = "checkpoints/dino_vitbase16_pretrain.pth"
DINO_URL = "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth"
"""Where DINO's own hubconf.py takes the backbone from."""

BACKBONES: dict[Branch, tuple[str, ...]] = {
    "ensemble": (DINO, "clip_vitb16_pretrain.pth.tar", "open_clip_vitb16_pretrain.pth.tar"),
    "dino_vitb16": (DINO,),
    "clip_vitb32": ("clip_vitb32_pretrain.pth.tar",),
    "open_clip_vitb32": ("open_clip_vitb32_pretrain.pth.tar",),
}

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

_TIMEOUT_S = 30
_CHUNK = 1 << 20


def adapter_folder(branch: Branch) -> str:
    """The folder of the branch's LoRA weights, relative to the weights' folder."""
    return "ensemble_lora" if branch == "ensemble" else f"{branch}_single_lora"


def files_of(folder: Path, branch: Branch) -> list[Path]:
    """The files of a branch in a folder, all of them there.

    Raises:
        SettingsError: naming what is missing.
    """
    lora = folder / adapter_folder(branch)
    weights = next((lora / name for name in ADAPTER_WEIGHTS if (lora / name).is_file()), None)
    files = [folder / name for name in BACKBONES[branch]] + [lora / ADAPTER_CONFIG]
    missing = [str(f.relative_to(folder)) for f in files if not f.is_file()]
    if weights is None:
        missing.append(f"{adapter_folder(branch)}/{ADAPTER_WEIGHTS[0]}")
    if missing or weights is None:
        raise SettingsError(
            f"DreamSim's folder {folder} lacks {', '.join(missing)}: fill it on a connected "
            f"machine and copy it here, or set distance.metric to imagenet, which needs no download"
        )
    return [*files, weights]


def digest_of(folder: Path, branch: Branch) -> str:
    """sha256 over the names and the contents of a branch's files (0.3 to 1.1 GB are read)."""
    total = hashlib.sha256()
    for path in sorted(files_of(folder, branch)):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder)} {content}\n".encode())
    return total.hexdigest()


def cache_folder() -> Path:
    """Where weights go that no setting placed: beside torch's other downloads (``TORCH_HOME``)."""
    import torch

    return Path(torch.hub.get_dir()) / "dreamsim"


def fetch(folder: Path, branch: Branch = "ensemble") -> Path:
    """Download what a branch needs and is not there yet, from where its authors publish it.

    A file appears under its own name when it is whole: an interrupted or a racing download leaves
    nothing that a later run takes for weights.

    Raises:
        SettingsError: no connection, a broken download, or a folder that cannot be written.
    """
    try:
        files_of(folder, branch)
    except SettingsError:
        pass
    else:
        return folder
    from dreamsim.config import dreamsim_weights

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
            archive = _download(dreamsim_weights[branch], Path(scratch) / "weights.zip")
            _unpack(archive, Path(scratch) / "unpacked", folder, branch)
            if DINO in BACKBONES[branch] and not (folder / DINO).is_file():
                _move(_download(DINO_URL, Path(scratch) / "dino.pth"), folder / DINO)
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise SettingsError(
            f"DreamSim's weights could not be downloaded to {folder} ({error}): connect this "
            f"machine once, or set distance.folder to a folder filled on another one, or "
            f"distance.metric to imagenet, which needs no download"
        ) from error
    files_of(folder, branch)
    return folder


def _download(url: str, to: Path) -> Path:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer, to.open("wb") as file:
        shutil.copyfileobj(answer, file, _CHUNK)
        promised = answer.headers.get("Content-Length")
    if promised is not None and to.stat().st_size != int(promised):
        raise OSError(f"{url} ended after {to.stat().st_size} of {promised} bytes")
    return to


def _unpack(archive: Path, scratch: Path, folder: Path, branch: Branch) -> None:
    """Move a branch's own files out of its archive, and no others."""
    lora = adapter_folder(branch)
    wanted = {*BACKBONES[branch], *(f"{lora}/{n}" for n in (ADAPTER_CONFIG, *ADAPTER_WEIGHTS))}
    with zipfile.ZipFile(archive) as members:
        for name in sorted(wanted & set(members.namelist())):
            _move(Path(members.extract(name, scratch)), folder / name)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
