"""Counts the floating point operations of a model's passes without computing any numbers.

The model is built on PyTorch's ``meta`` device, and one sample passes through each part under
``FlopCounterMode``. It counts matrix products, convolutions and their gradients; a multiplication and an
addition are two operations. Norms, activations, samplers and the optimiser are left out. Attention is counted
as its plain matrix products: the counter does not know PyTorch's CPU kernel, and what fused kernels compute a
second time in the backward pass is not counted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch.utils.flop_counter import FlopCounterMode

from originality.model.meta_model import META, Architecture
from originality.model.prompt_embeddings import PromptEmbeddings, Prompts, TextEncoders
from originality.settings.parts import DistanceSettings


@dataclass(frozen=True)
class Flops:
    """Operations of one sample in the UNet, one image in the VAE and one prompt in the text encoders."""

    forward: int
    """UNet, forward pass."""
    step: int
    """UNet, forward pass and backward pass to the prompt embeddings, all weights frozen: one sample of an
    inversion step."""
    encoding: int
    """VAE, from the image to the moments of the latents."""
    decoding: int
    """VAE, from latents to the image."""
    text: int
    """Text encoders, forward pass."""
    text_step: int
    """Text encoders, forward pass and backward pass to the token vectors."""

    def __str__(self) -> str:
        return (
            f"UNet forward {format_flops(self.forward)} a sample, "
            f"forward and back {format_flops(self.step)}; "
            f"VAE encode {format_flops(self.encoding)}, decode {format_flops(self.decoding)} an image; "
            f"text {format_flops(self.text)} a prompt"
        )


def format_flops(flops: float) -> str:
    """Format a number of operations: "66.8 PFLOP"."""
    for letter, unit in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if flops >= unit:
            return f"{flops / unit:.3g} {letter}FLOP"
    return f"{flops / 1e6:.3g} MFLOP"


def counted(work: Callable[[], object]) -> int:
    """Operations of a function call, counted as the module says."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


_known: dict[str, Flops] = {}


def flops(architecture: Architecture) -> Flops:
    """Operations of an architecture. Counting takes some seconds for Stable Diffusion, so the result is
    cached for the process."""
    key = architecture.key()
    if key not in _known:
        _known[key] = _Sample(architecture).flops()
    return _known[key]


class _Sample:
    """One sample in a model on the meta device."""

    def __init__(self, architecture: Architecture) -> None:
        parts = architecture.built(eager=True)
        self.unet, self.vae = parts.unet, parts.vae
        for part in (self.unet, self.vae):
            part.set_attn_processor(AttnProcessor())
        self.text = TextEncoders((), parts.encoders)
        self.latents = torch.empty((1, *architecture.latent_shape), device=META)
        self.image = torch.empty((1, 3, architecture.side, architecture.side), device=META)
        ids = torch.zeros((1, len(parts.encoders), architecture.length), dtype=torch.long, device=META)
        self.prompts = Prompts(ids, ids[:, 0])  # every position is the pseudo-word's only token

    def flops(self) -> Flops:
        text, text_step, words = self._text()
        forward, step = self._unet(words)
        with torch.no_grad():
            encoding = counted(lambda: self.vae.encode(self.image))
            decoding = counted(lambda: self.vae.decode(self.latents))
        return Flops(forward, step, encoding, decoding, text, text_step)

    def _text(self) -> tuple[int, int, PromptEmbeddings]:
        """Operations of the forward pass, of forward and backward pass, and the prompt embeddings."""
        vectors = torch.empty((1, 1, sum(self.text.widths)), device=META, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            words = self.text.encode(self.prompts, vectors)
            forward = int(counter.get_total_flops())
            pooled = 0 if words.pooled is None else words.pooled.sum()
            (words.states.sum() + pooled).backward()
        return forward, int(counter.get_total_flops()), words

    def _unet(self, words: PromptEmbeddings) -> tuple[int, int]:
        """Operations of the forward pass, and of forward and backward pass."""
        states = words.states.detach().requires_grad_()
        pooled = None if words.pooled is None else words.pooled.detach().requires_grad_()
        added: dict[str, Any] | None = None
        if pooled is not None:  # SDXL: pooled embeddings, and six numbers for sizes and crops
            added = {"text_embeds": pooled, "time_ids": torch.empty((1, 6), device=META)}
        t = torch.zeros(1, dtype=torch.long, device=META)
        with FlopCounterMode(display=False) as counter:
            predicted = self.unet(self.latents, t, states, added_cond_kwargs=added).sample
            forward = int(counter.get_total_flops())
            predicted.sum().backward()
        return forward, int(counter.get_total_flops())


_PATCHES = {"dino_vitb16": (16,), "clip_vitb32": (32,), "open_clip_vitb32": (32,), "ensemble": (16, 16, 16)}
"""Patch sizes in pixels of the ViT-base networks of each DreamSim branch."""


def judging(distance: DistanceSettings) -> int:
    """Operations of the metric for one image. Of DreamSim only the backbones are counted: adapters and
    projections add about one per cent. 0 for a metric of a different package, about which nothing is
    known."""
    if distance.metric == "elements":
        from originality.shapes.detector import CHUNK, Detector
        from originality.shapes.drawing import CANVAS

        detector, blank = Detector.load(), torch.full((CHUNK, CANVAS, CANVAS, 3), 255, dtype=torch.uint8)
        return counted(lambda: detector.detect(blank)) // CHUNK
    if distance.metric == "imagenet":
        from efficientnet_lite_pytorch import EfficientNet

        from originality.vision.imagenet import CROP

        with META:
            network, image = EfficientNet.from_name("efficientnet-lite0"), torch.empty((1, 3, CROP, CROP))
        return _forward(lambda: network.eval().extract_features(image))
    if distance.metric != "dreamsim":  # a metric of a different package
        return 0
    return sum(map(_vision_transformer, _PATCHES[distance.branch]))


@functools.cache
def _vision_transformer(patch: int) -> int:
    """Operations of a ViT-base network for one image of 224 pixels."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(image_size=224, patch_size=patch, attn_implementation="eager")
    with META:
        network, image = ViTModel(config, add_pooling_layer=False), torch.empty((1, 3, 224, 224))
    return _forward(lambda: network.eval()(image))


@torch.no_grad()
def _forward(work: Callable[[], object]) -> int:
    return counted(work)
