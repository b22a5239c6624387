"""The scales at which the experiments are run."""

from __future__ import annotations

from typing import Any

from originality.experiments.conditions import Conditions
from originality.experiments.diversity import Diversity
from originality.experiments.frequency import Frequency
from originality.settings.redraw import RedrawSettings
from originality.training.shapes_model.recipe import (
    AutoencoderRecipe,
    DenoiserRecipe,
    ShapesRecipe,
    TextRecipe,
)

_PAIRS = ShapesRecipe(denoiser=DenoiserRecipe(steps=(6000,), batch_size=64))

_PLAIN = {"template_share": 0.0, "generic_caption": 0.0}
"""Captions that only name elements, as the prompts do: no pseudo-word is learned in this experiment."""

_ELEMENTS = ShapesRecipe(
    denoiser=DenoiserRecipe(images=50_000, steps=(6000,), batch_size=32, snr_offset=1.0, **_PLAIN)
)
"""The usual ``snr_offset`` of 0.1 gives little weight to the noise levels at which shapes can be
distinguished: with it, and with half of the captions in templates, a model of 30 elements drew few of those
that it was shown."""

_IMAGES = 100_000
_PAPER = ShapesRecipe(
    side=256,
    autoencoder=AutoencoderRecipe(
        channels=(128, 256, 512, 512),
        latent_channels=4,
        layers_per_block=2,
        norm_groups=32,
        attention=True,
        steps=8 * _IMAGES // 32,
        batch_size=32,
        learning_rate=1e-5,
        ink_weight=0.0,
        decay_share=0.0,
    ),
    text=TextRecipe(
        pretrained="google-bert/bert-base-uncased",
        revision="86b5e0934494bd15c9632b12f734a8a67f723594",
        max_length=40,  # "hexagon" is three of its tokens, and a caption may name four elements
    ),
    denoiser=DenoiserRecipe(
        channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        norm_groups=32,
        images=_IMAGES,
        steps=(15 * (_IMAGES // 64),),
        batch_size=64,
        learning_rate=6.4e-5,
        snr_offset=None,
        decay_share=0.0,
    ),
)
"""Appendices B.1 and E.1: a VAE for 8 epochs of 32 images at 1e-5, then a UNet for 15 epochs of 64 at 6.4e-5,
on a pretrained BERT. The paper does not state, so these are our choice: 256 pixels, Stable Diffusion v1's
architecture, AdamW's decay, averaged weights, one caption in ten empty, one in twenty the initial word alone,
half in templates."""

_PAPER_ELEMENTS = _PAPER.model_copy(update={"denoiser": _PAPER.denoiser.model_copy(update=_PLAIN)})
"""For sets of elements, without the initial word or templates in captions."""

SCALES: dict[str, dict[str, Any]] = {
    "laptop": {
        "frequency": Frequency(recipe=_PAIRS),
        "conditions": Conditions(
            recipe=_PAIRS,
            trainings=("shorter", "weaker-text", "pretrained-text", "terse", "named"),  # longer: a night
        ),
        "diversity": Diversity(recipe=_ELEMENTS, max_elements=2, controls=(60,)),
    },
    "paper": {
        "frequency": Frequency(recipe=_PAPER, autoencoder="own", preset="paper-shapes"),
        "conditions": Conditions(recipe=_PAPER, autoencoder="own", preset="paper-shapes", shipped=False),
        "diversity": Diversity(
            recipe=_PAPER_ELEMENTS,
            autoencoder="own",
            repeats=8,
            images=1024,
            redraw=RedrawSettings(steps=50, guidance_scale=3.0),
        ),
    },
}
"""``laptop``: 64 pixels, the shipped model's size and autoencoder; each experiment is hours of two cores.
Diversity's images show two elements at most, where the paper's show four or six, as its models learn from an
eighth of the paper's samples. ``paper``: for GPUs."""
