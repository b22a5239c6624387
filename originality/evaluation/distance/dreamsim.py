"""DreamSim, the paper's distance (Appendix F; Fu et al. 2023): 1 - cosine of perceptual embeddings.

The networks, their normalisation and their LoRA weights are the dreamsim package's. Only the loading is our
own, because the package's loader does things that a library in a worker must not do:

- for DINO it points ``torch.hub`` of the process at its folder and runs ``hubconf.py`` from there. Here
  nothing runs code from a folder of weights: the package's own VisionTransformer, which is DINO's, loads the
  same file of weights;
- it downloads whenever a file is missing, even into a folder that is meant to be complete;
- it prints, and it uses the global random generator;
- if a LoRA file does not fit, it only warns and continues with untuned networks.

Some of its files are pickles. They are read as tensors only, so that no code in them runs: by us, by the
package (0.2.1 passes ``weights_only=True`` for every file of the four branches) and by peft.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import pickle
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError

from originality.contract.config import Precision, SettingsError
from originality.contract.faults import is_machine_fault
from originality.contract.transfer_progress import to_stderr
from originality.evaluation.distance.dreamsim_fetch import fetch
from originality.evaluation.distance.dreamsim_weights import (
    BRANCHES,
    DINO,
    Branch,
    adapter_folder,
    cache_folder,
    check,
    digest_of,
)
from originality.model.device import DTYPES
from originality.vision.batches import batch_size_for, cosine_distances, in_batches, unit

VERSION = 1
"""Increased with every change that alters a distance."""

SIDE = 224
"""Width and height of the networks' input, in pixels."""

_loading = threading.Lock()

_UNREADABLE = (
    *(RuntimeError, OSError, EOFError, LookupError, ValueError, TypeError, UserWarning),
    pickle.UnpicklingError,
    SafetensorError,
)
"""Errors that torch, safetensors, json and peft raise at an incomplete, foreign or mismatched file."""


def prepare(image: np.ndarray) -> torch.Tensor:
    """DreamSim's own preprocessing: bicubic to 224 x 224, whatever the proportions, in 0..1.

    Args:
        image: uint8 (h, w, 3).

    Returns:
        float32 (3, 224, 224).
    """
    resized = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(resized, np.float32) / np.float32(255)).permute(2, 0, 1)


@contextmanager
def hub_folder_restored() -> Iterator[None]:
    """Restore ``torch.hub``'s folder at the end, whatever changes it inside."""
    # set_dir(get_dir()) would not do: it would freeze a folder that so far followed TORCH_HOME.
    before = torch.hub._hub_dir
    try:
        yield
    finally:
        torch.hub._hub_dir = before


@contextmanager
def _package_patched(device: torch.device) -> Iterator[None]:
    """Patch the package while it builds its networks: no hub code for DINO, no change left in the process."""
    from dreamsim.feature_extraction import extractor, vision_transformer

    original = extractor.ViTExtractor.__dict__["create_model"]

    def create_model(model_type: str, load_dir: str = "./models") -> Any:
        if model_type != "dino_vitb16":
            return original.__func__(model_type, load_dir)
        backbone = vision_transformer.vit_base(patch_size=16)
        weights = torch.load(Path(load_dir) / DINO, map_location="cpu", weights_only=True)
        backbone.load_state_dict(weights, strict=True)
        return backbone

    generators = [device] if device.type == "cuda" else []
    # What is replaced here is global to the process, and two threads may load at the same time.
    with (
        _loading,
        hub_folder_restored(),
        torch.random.fork_rng(devices=generators),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("error", message="Found missing adapter keys")
        extractor.ViTExtractor.create_model = staticmethod(create_model)
        try:
            yield
        finally:
            extractor.ViTExtractor.create_model = original


def _build(folder: Path, branch: Branch, device: torch.device, dtype: torch.dtype) -> Any:
    """The package's PerceptualModel with its LoRA weights, in evaluation mode."""
    from dreamsim.config import dreamsim_args
    from dreamsim.model import PerceptualModel
    from peft import PeftModel

    with _package_patched(device):
        model: Any = PerceptualModel(
            **dreamsim_args["model_config"][branch],
            load_dir=str(folder),
            device=str(device),
            # embed() centres and scales instead, in float64 rather than in dtype.
            normalize_embeds=False,
        )
        # By default peft uses a GPU if there is one, whatever device the model is on.
        PeftModel.from_pretrained(model, str(folder / adapter_folder(branch)), torch_device=str(device))
    model.eval().requires_grad_(False).to(device, dtype)
    for extractor in model.extractor_list:
        # CLIP's projection is a plain tensor, which a module's .to() does not move.
        if isinstance(getattr(extractor, "proj", None), torch.Tensor):
            extractor.proj = extractor.proj.detach().to(device, dtype)
    return model


def _name_of(branch: Branch) -> str:
    """The metric's name in reports."""
    return "dreamsim" if branch == "ensemble" else f"dreamsim-{branch}"


def digest_without_loading(folder: Path, branch: Branch) -> str:
    """DreamSim.digest() of a folder of weights, or of the outline of one.

    Raises:
        SettingsError: a file is missing.
    """
    package = importlib.metadata.version("dreamsim")
    text = f"{_name_of(branch)} {VERSION} {package} {digest_of(folder, branch)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class DreamSim:
    """The ensemble of DINO, CLIP and OpenCLIP that the paper uses, or one network of it."""

    largest = 1.0
    """A cosine may be negative and a distance exceed this bound, though no published mean is over 0.83; all
    redraws are then rendered."""

    def __init__(
        self,
        folder: Path | None = None,
        branch: Branch = "ensemble",
        device: str | torch.device = "cpu",
        dtype: Precision = "fp32",
        batch_size: int | None = None,
    ) -> None:
        """Load a branch; without a network connection if a folder is given.

        Args:
            folder: holds the weights (see :mod:`.dreamsim_weights`) and is only read. None for this machine's
                cache, into which missing files are downloaded. Files with a digest in the folder are checked
                against it.
            branch: "ensemble" as in the paper, or a single network.
            device: where the networks run.
            dtype: precision of the networks; embeddings are compared in float64.
            batch_size: images per pass; None for a size that suits the device.

        Raises:
            SettingsError: the weights are not found or cannot be read.
            FetchError: the weights cannot be downloaded to this machine.
        """
        if branch not in BRANCHES:
            raise SettingsError(f"DreamSim has no branch {branch!r}; it has {', '.join(BRANCHES)}")
        if folder is None:
            folder = fetch(cache_folder(), branch, tell=to_stderr)
        elif not folder.is_dir():
            raise SettingsError(
                f"DreamSim's folder {folder} does not exist: set distance.folder to one that holds "
                f"its weights, or unset it to download them"
            )
        check(folder, branch)
        self.name = _name_of(branch)
        self._folder, self._branch = folder, branch
        self._device, self._dtype = torch.device(device), DTYPES[dtype]
        self._batch_size = batch_size or batch_size_for(self._device)
        try:
            self._model = _build(folder, branch, self._device, self._dtype)
        except _UNREADABLE as error:
            if is_machine_fault(error):
                raise
            reason = str(error).strip().split("\n", 1)[0][:200]
            raise SettingsError(
                f"DreamSim's weights in {folder} cannot be loaded as {branch} ({reason}): "
                f"fetch or copy them again"
            ) from error

    def digest(self) -> str:
        """Short digest of the weights' files, the package's version and ours; computed once, when needed."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return digest_without_loading(self._folder, self._branch)

    def embed(self, images: np.ndarray) -> Sequence[np.ndarray]:
        """Embeddings of uint8 (n, h, w, 3), centred and scaled to length 1 as the package does.

        Returns:
            n times float64 (d,); d is 1792 for the ensemble, 768 for DINO, 512 for either CLIP.
        """
        width = int(self._model.embed_size)
        features = in_batches(images, self._batch_size, width, prepare, self._forward)
        return list(unit(features - features.mean(axis=1, keepdims=True)))

    def between(self, query: np.ndarray, redraws: Sequence[np.ndarray]) -> np.ndarray:
        """D = 1 - cosine of the embeddings (Appendix F): float64 (n,), in [0, 2]."""
        return cosine_distances(query, redraws)

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self._model.embed(batch.to(self._device, self._dtype))
