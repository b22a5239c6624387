"""A model's architecture without its weights, and the model built from it on PyTorch's ``meta`` device.

That device holds shapes and no numbers.

The architecture comes from a loaded model, from a folder, or from a family's published configuration, which
needs neither weights nor a hub.
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
"""Families by the last part of a model's name, as on the hub and usually in buckets too."""


@dataclass(frozen=True)
class Parts:
    """A model's networks on the meta device, frozen and in evaluation mode."""

    unet: Any
    vae: Any
    encoders: tuple[nn.Module, ...]


@dataclass(frozen=True)
class Architecture:
    """A model's configurations, as diffusers and transformers write them."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    texts: tuple[tuple[str, Mapping[str, Any]], ...]
    """For each text encoder, its class in transformers and its configuration."""

    @classmethod
    def of_model(cls, model: LatentDiffusion) -> Architecture:
        """The architecture of a loaded model."""
        encoders: Any = model.text.encoders
        texts = tuple((type(encoder).__name__, encoder.config.to_dict()) for encoder in encoders)
        return cls(dict(model.unet.config), dict(model.vae.config), texts)

    @classmethod
    def of_family(cls, name: str) -> Architecture:
        """The published architecture of a family.

        Raises:
            SettingsError: the family is unknown.
        """
        if name not in FAMILIES:
            raise SettingsError(f"model family {name!r} is unknown{nearest(name, FAMILIES)}")
        family = FAMILIES[name]
        return cls(family.unet, family.vae, tuple((text.kind, text.config) for text in family.texts))

    @classmethod
    def of_folder(cls, folder: ModelFolder) -> Architecture:
        """The architecture of a model's folder; weights are not read."""
        about = folder.description
        return cls(about.unet, about.vae, tuple(zip(about.encoders, about.texts, strict=True)))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, h, w) of one latent."""
        side = self.unet["sample_size"]
        return (self.unet["in_channels"], side, side)

    @property
    def side(self) -> int:
        """Side of an image, in pixels."""
        return int(self.unet["sample_size"] * 2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def length(self) -> int:
        """Tokens of a prompt, padding included."""
        return int(self.texts[0][1].get("max_position_embeddings", LENGTH))

    def key(self) -> str:
        """A key that is equal for equal architectures, for caching what was measured on one."""
        return json.dumps([dict(self.unet), dict(self.vae), self.texts], default=str, sort_keys=True)

    def built(self, *, eager: bool = False) -> Parts:
        """Build the networks on the meta device, in fp32.

        Args:
            eager: text encoders compute attention by plain matrix products, which can be counted.
        """
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
    """The architecture of the settings' model, and where that is known from, for a message.

    Nothing is downloaded: for a model in a bucket or on the hub, the name must tell the family.

    Raises:
        SettingsError: the name tells no family.
    """
    if settings.path == SHIPPED_MODEL or Path(settings.path).is_dir():
        return Architecture.of_folder(open_model(settings)), "as its folder says"
    name = settings.path.rstrip("/").rpartition("/")[2]
    for pattern, family in NAMES:
        if re.fullmatch(pattern, name):
            return Architecture.of_family(family), f"{family} by its name"
    raise SettingsError(
        f"the architecture of {settings.path!r} is unknown: set --family to one of {', '.join(FAMILIES)}, or "
        "give a folder on this machine"
    )
