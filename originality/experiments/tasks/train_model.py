"""Train a model from its plan, as a long task."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from originality.experiments.tasks.plans import ModelPlan
from originality.model.device import device_name
from originality.model.diffusers_folder import MODELS
from originality.settings.parts import SHIPPED_MODEL
from originality.training.shapes_model import autoencoder, denoiser
from originality.training.shapes_model.assemble import assemble
from originality.training.shapes_model.latents import CHUNK, encode_images, moments_shape, set_name
from originality.training.shapes_model.vocabulary import pretrained_encoder, tokenizer_for
from originality.training.stage import Stage

_log = logging.getLogger(__name__)

MODEL = "model"
"""Folder of the trained model in the record's files."""

CURVE = 50
"""Steps over which a loss is averaged for the record."""


class Training:
    """The training of one model, in phases: autoencoder, the set's latents, rounds of UNet and text encoder.

    Implements originality.experiments.tasks.long_task.Work. The latents of a set are stored in ``cache``, so
    that a second model of the same set does not encode it again.
    """

    def __init__(self, plan: ModelPlan, device: torch.device, cache: Path) -> None:
        self.plan, self.phase = plan, 0
        self._device, self._cache = device, cache
        self._images = plan.images.images()
        self._losses: dict[str, list[float]] = {}
        self._moments: np.ndarray | None = None
        self._encoding: np.ndarray | None = None
        self._encoded = 0
        self._model: denoiser.Denoiser | None = None
        self._resume_from: dict[str, Any] | None = None
        """The state to load once the latents are available again."""
        if plan.recipe.text.pretrained is not None:
            pretrained_encoder(plan.recipe.text)  # fail now if it is unavailable, not after hours
        torch.manual_seed(plan.recipe.seed)
        self._vae = (
            autoencoder.build(plan.recipe)
            if plan.autoencoder == "own"
            else AutoencoderKL.from_pretrained(MODELS / SHIPPED_MODEL, subfolder="vae")
        ).to(device)
        self._stage: Stage | None = None
        if plan.autoencoder == "own":
            self._stage = autoencoder.stage(plan.recipe, self._vae, self._images)
        else:
            self._vae.eval().requires_grad_(False)
            self.phase = 1

    def __str__(self) -> str:
        stage = self._stage
        if stage is not None:
            return (
                f"{self.plan.name}: {stage.name} {stage.step}/{stage.steps}, loss {stage.recent_loss():.4f}"
            )
        return f"{self.plan.name}: latents {self._encoded}/{self.plan.recipe.denoiser.images}"

    @property
    def done(self) -> bool:
        """Whether all stages have been trained."""
        return self.phase > 1 + len(self.plan.recipe.denoiser.steps)

    def advance(self) -> None:
        """Take an optimiser step, or encode some images."""
        if self._moments is None and self.phase >= 1:
            self._encode()
        elif self._stage is not None:
            self._stage.advance()
            if self._stage.done:
                self._finish(self._stage)

    @cached_property
    def _cached_latents(self) -> Path:
        """File of the set's latents in the cache. Its name depends on the finished autoencoder's weights."""
        recipe = self.plan.recipe
        return self._cache / set_name(self._vae, self._images, recipe.seed, recipe.denoiser.images)

    def _encode(self) -> None:
        """Encode some more of the set's images; after the last of them, begin the next phase."""
        seed, count = self.plan.recipe.seed, self.plan.recipe.denoiser.images
        if self._encoding is None and self._cached_latents.exists():
            self._moments = np.load(self._cached_latents, mmap_mode="r")
        else:
            if self._encoding is None:
                self._encoding = np.empty(moments_shape(self._vae, count), np.float16)
            numbers = range(self._encoded, min(self._encoded + CHUNK, count))
            self._encoding[self._encoded : numbers.stop] = encode_images(
                self._vae, self._images, seed, numbers
            )
            self._encoded = numbers.stop
            if self._encoded < count:
                return
            self._moments = self._encoding
            _store(self._moments, self._cached_latents)
        resumed, self._resume_from = self._resume_from, None
        self._begin(0 if resumed is None else resumed["phase"] - 2)
        if resumed is not None and self._stage is not None:
            self._stage.load(resumed["stage"])

    def _begin(self, round_: int) -> None:
        """Open the stage of a round of UNet and text encoder."""
        assert self._moments is not None
        recipe = self.plan.recipe
        if self._model is None:
            with tempfile.TemporaryDirectory() as words:
                tokenizer = tokenizer_for(recipe.text, Path(words))
            torch.manual_seed(recipe.seed + 1)
            self._model = denoiser.build(recipe, tokenizer, self._moments.shape[-1])
            for part in (self._model.unet, self._model.text_encoder):
                part.to(self._device)
        scale = self._vae.config.scaling_factor
        self.phase = 2 + round_
        self._stage = denoiser.stage(recipe, self._model, scale, self._moments, self._images, round_)

    def _finish(self, stage: Stage) -> None:
        """Finish a stage and begin the next phase."""
        stage.finish()
        self._losses[stage.name] = curve(stage.losses)
        self._stage = None
        if self.phase == 0:
            autoencoder.freeze(self.plan.recipe, self._vae, self._images)
            self.phase = 1
        elif self.phase - 1 < len(self.plan.recipe.denoiser.steps):
            self._begin(self.phase - 1)
        else:
            assert self._model is not None
            denoiser.freeze(self._model)
            self.phase += 1

    def record(self) -> dict[str, Any]:
        """The record of the finished training."""
        assert self._model is not None
        digest = hashlib.sha256()
        for part in (self._model.unet, self._model.text_encoder, self._vae):
            for name, value in sorted(part.state_dict().items()):
                digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return {
            "name": self.plan.name,
            "plan": self.plan.document(),
            "weights_digest": digest.hexdigest()[:16],
            "device": device_name(self._device),
            "losses": self._losses,
        }

    def files(self) -> dict[str, bytes]:
        """The files of the model's folder."""
        assert self._model is not None
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            for part in (self._model.unet, self._model.text_encoder):
                part.cpu()
            assemble(self._vae.cpu(), self._model, folder)
            written = (file for file in sorted(folder.rglob("*")) if file.is_file())
            return {f"{MODEL}/{file.relative_to(folder).as_posix()}": file.read_bytes() for file in written}

    def state(self) -> dict[str, Any]:
        """State for :meth:`load`, without the latents, which are encoded again."""
        if self._resume_from is not None:
            return self._resume_from
        kept: dict[str, Any] = {
            "plan": self.plan.digest(),
            "phase": self.phase,
            "losses": self._losses,
            "stage": None if self._stage is None else self._stage.state(),
        }
        if self.plan.autoencoder == "own" and self.phase:
            kept["vae"], kept["scale"] = self._vae.state_dict(), self._vae.config.scaling_factor
        return kept

    def load(self, kept: Mapping[str, Any]) -> None:
        """Resume from a state.

        Raises:
            ValueError: the state is of a different plan.
        """
        if kept["plan"] != self.plan.digest():
            raise ValueError(f"the snapshot is of a different plan than {self.plan.name}")
        self._losses = dict(kept["losses"])
        if "vae" in kept:
            self._vae.load_state_dict(kept["vae"])
            self._vae.eval().requires_grad_(False)
            self._vae.register_to_config(scaling_factor=kept["scale"])
            self._stage, self.phase = None, 1
        if kept["phase"] == 0 and self._stage is not None:
            self._stage.load(kept["stage"])
        if kept["phase"] >= 2:
            self._resume_from = dict(kept)


def _store(moments: np.ndarray, file: Path) -> None:
    """Store latents for other models of the set. If that fails, for lack of space, they are encoded again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
            try:
                np.save(part, moments)
                Path(part.name).replace(file)
            except OSError:
                Path(part.name).unlink()
                raise
    except OSError as error:
        _log.warning(
            "cannot store latents in %s: %s; other models will encode them again", file.parent, error.strerror
        )


def curve(losses: list[float]) -> list[float]:
    """Means of the losses over every :data:`CURVE` steps, for the record."""
    parts = (losses[k : k + CURVE] for k in range(0, len(losses), CURVE))
    return [round(sum(part) / len(part), 6) for part in parts]
