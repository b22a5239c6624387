"""Training a model by its plan, as work that the engine drives."""

from __future__ import annotations

import hashlib
import sys
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

MODEL = "model"
"""Folder of the trained model among a record's files."""

CURVE = 50
"""Steps over which a loss is averaged for the record."""


class Training:
    """One model, in phases: its autoencoder, the set's latents, the rounds of UNet and text encoder.

    Implements originality.experiments.tasks.long_task.Work. The latents of a set are kept in ``cache``, so
    that models of one set do not encode it twice.
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
        self._later: dict[str, Any] | None = None
        """Where to go on when the latents are there again."""
        if plan.recipe.text.pretrained is not None:
            pretrained_encoder(plan.recipe.text)  # that it cannot be had is known now, not after hours
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
        return self.phase > 1 + len(self.plan.recipe.denoiser.steps)

    def advance(self) -> None:
        """An optimiser step, or some images encoded."""
        if self._moments is None and self.phase >= 1:
            self._encode()
        elif self._stage is not None:
            self._stage.advance()
            if self._stage.done:
                self._settle(self._stage)

    @cached_property
    def _kept(self) -> Path:
        """Where the set's latents are, or will be, kept. The name follows from the finished autoencoder."""
        recipe = self.plan.recipe
        return self._cache / set_name(self._vae, self._images, recipe.seed, recipe.denoiser.images)

    def _encode(self) -> None:
        """Some more of the set's images; with the last of them the next phase begins."""
        seed, count = self.plan.recipe.seed, self.plan.recipe.denoiser.images
        if self._encoding is None and self._kept.exists():
            self._moments = np.load(self._kept, mmap_mode="r")
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
            _keep(self._moments, self._kept)
        later, self._later = self._later, None
        self._begin(0 if later is None else later["phase"] - 2)
        if later is not None and self._stage is not None:
            self._stage.load(later["stage"])

    def _begin(self, round_: int) -> None:
        """Open the stage of a round."""
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

    def _settle(self, stage: Stage) -> None:
        """A stage is done: the next phase."""
        stage.finish()
        self._losses[stage.name] = curve(stage.losses)
        self._stage = None
        if self.phase == 0:
            autoencoder.settle(self.plan.recipe, self._vae, self._images)
            self.phase = 1
        elif self.phase - 1 < len(self.plan.recipe.denoiser.steps):
            self._begin(self.phase - 1)
        else:
            assert self._model is not None
            denoiser.freeze(self._model)
            self.phase += 1

    def record(self) -> dict[str, Any]:
        """What is said of a finished training."""
        assert self._model is not None
        told = hashlib.sha256()
        for part in (self._model.unet, self._model.text_encoder, self._vae):
            for name, value in sorted(part.state_dict().items()):
                told.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return {
            "name": self.plan.name,
            "plan": self.plan.document(),
            "weights_digest": told.hexdigest()[:16],
            "device": device_name(self._device),
            "losses": self._losses,
        }

    def files(self) -> dict[str, bytes]:
        """The model's folder."""
        assert self._model is not None
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            for part in (self._model.unet, self._model.text_encoder):
                part.cpu()
            assemble(self._vae.cpu(), self._model, folder)
            written = (file for file in sorted(folder.rglob("*")) if file.is_file())
            return {f"{MODEL}/{file.relative_to(folder).as_posix()}": file.read_bytes() for file in written}

    def state(self) -> dict[str, Any]:
        """All that :meth:`load` goes on from; latents are encoded again."""
        if self._later is not None:
            return self._later
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
        """Go on from a state.

        Raises:
            ValueError: it is of another plan.
        """
        if kept["plan"] != self.plan.digest():
            raise ValueError("the snapshot is of another plan")
        self._losses = dict(kept["losses"])
        if "vae" in kept:
            self._vae.load_state_dict(kept["vae"])
            self._vae.eval().requires_grad_(False)
            self._vae.register_to_config(scaling_factor=kept["scale"])
            self._stage, self.phase = None, 1
        if kept["phase"] == 0 and self._stage is not None:
            self._stage.load(kept["stage"])
        if kept["phase"] >= 2:
            self._later = dict(kept)


def _keep(moments: np.ndarray, file: Path) -> None:
    """For other models of the set; where there is no room for it, they encode it again."""
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
        sys.stderr.write(f"latents are not kept in {file.parent}: {error.strerror}\n")


def curve(losses: list[float]) -> list[float]:
    """Means of every so many steps, for a record."""
    parts = (losses[k : k + CURVE] for k in range(0, len(losses), CURVE))
    return [round(sum(part) / len(part), 6) for part in parts]
