"""A model's architecture without its weights, and the model built from it on PyTorch's ``meta`` device, which
knows shapes and nothing else.

It is taken from a loaded model, from a folder, or from a family's published configuration, which needs
neither weights nor a hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import torch
import transformers
from torch import nn

from originality.contract.config import SettingsError, nearest
from originality.model.clip_vocabulary import LENGTH
from originality.model.families import FAMILIES
from originality.model.model_folder import ModelFolder, open_model
from originality.settings.parts import SHIPPED_MODEL, ModelSettings

if TYPE_CHECKING:
    from originality.model.diffusion import LatentDiffusion

META = torch.device("meta")

NAMES = (
    (r"stable-diffusion-v1-[1-5]", "sd1"),
    (r"stable-diffusion-2(-1)?-base", "sd2-base"),
    (r"stable-diffusion-2(-1)?", "sd2"),
    (r"stable-diffusion-xl-base-[\w.]+", "sdxl"),
)
"""The families' models by the last part of their name, as the hub has them and copies in buckets keep it."""


@dataclass(frozen=True)
class Parts:
    """A model without numbers: its modules on the meta device, frozen, in evaluation mode."""

    unet: Any
    vae: Any
    encoders: tuple[nn.Module, ...]


@dataclass(frozen=True)
class Architecture:
    """Configurations, as diffusers and transformers write them."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    texts: tuple[tuple[str, Mapping[str, Any]], ...]
    """Class in transformers and configuration of each text encoder."""

    @classmethod
    def of_model(cls, model: LatentDiffusion) -> Architecture:
        """Of a loaded model."""
        encoders: Any = model.text.encoders
        texts = tuple((type(encoder).__name__, encoder.config.to_dict()) for encoder in encoders)
        return cls(dict(model.unet.config), dict(model.vae.config), texts)

    @classmethod
    def of_family(cls, name: str) -> Architecture:
        """As it is published.

        Raises:
            SettingsError: there is no such family.
        """
        if name not in FAMILIES:
            raise SettingsError(f"model family {name!r} is unknown{nearest(name, FAMILIES)}")
        family = FAMILIES[name]
        return cls(family.unet, family.vae, tuple((text.kind, text.config) for text in family.texts))

    @classmethod
    def of_folder(cls, folder: ModelFolder) -> Architecture:
        """Of a model's folder; weights are not read."""
        about = folder.description
        return cls(about.unet, about.vae, tuple(zip(about.encoders, about.texts, strict=True)))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, h, w) of one latent."""
        side = self.unet["sample_size"]
        return (self.unet["in_channels"], side, side)

    @property
    def side(self) -> int:
        """Pixels of an image's side."""
        return int(self.unet["sample_size"] * 2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def length(self) -> int:
        """Tokens that a text encoder reads of every prompt."""
        return int(self.texts[0][1].get("max_position_embeddings", LENGTH))

    def key(self) -> str:
        """The same for the same architecture: for what is found out once."""
        return json.dumps([dict(self.unet), dict(self.vae), self.texts], default=str, sort_keys=True)

    def built(self, *, eager: bool = False) -> Parts:
        """On the meta device, in fp32. ``eager``: text encoders attend by plain products of matrices."""
        with META:
            unet = diffusers.UNet2DConditionModel.from_config(dict(self.unet))
            vae = diffusers.AutoencoderKL.from_config(dict(self.vae))
            encoders = []
            for kind, values in self.texts:
                kind_of_config = getattr(transformers, kind).config_class
                config = kind_of_config.from_dict(dict(values))
                if eager:
                    config._attn_implementation = "eager"
                encoders.append(getattr(transformers, kind)(config))
        for part in (unet, vae, *encoders):
            part.eval().requires_grad_(False)
        return Parts(unet, vae, tuple(encoders))


def architecture_of(settings: ModelSettings) -> tuple[Architecture, str]:
    """The architecture that the settings mean, and a word on where that is known from. Nothing is brought
    from a bucket or the hub: there, a model's name must say its family.

    Raises:
        SettingsError: the name says nothing.
    """
    if settings.path == SHIPPED_MODEL or Path(settings.path).is_dir():
        return Architecture.of_folder(open_model(settings)), "as its folder says"
    name = settings.path.rstrip("/").rpartition("/")[2]
    for pattern, family in NAMES:
        if re.fullmatch(pattern, name):
            return Architecture.of_family(family), f"{family} by its name"
    raise SettingsError(
        f"the architecture of {settings.path!r} is not known here: say --family {', '.join(FAMILIES)}, or "
        "give a folder of this machine"
    )
