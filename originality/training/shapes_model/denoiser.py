"""Stage 3: train UNet and text encoder together on the latents (paper Appendices B and E.1)."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import BertModel, BertTokenizer, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from originality.settings.domains import DOMAINS
from originality.shapes.image_sets import ImageSet, Scene, generator
from originality.shapes.motifs import NAME_SHARE
from originality.training.shapes_model.recipe import DenoiserRecipe, Frozen, ShapesRecipe
from originality.training.shapes_model.vocabulary import pretrained_encoder
from originality.training.stage import Processes, Stage, run_stage

DOMAIN = DOMAINS["shapes"]


@dataclass
class Denoiser:
    """The parts that are trained together."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel | BertModel
    tokenizer: CLIPTokenizer | BertTokenizer
    scheduler: DDPMScheduler


def build(recipe: ShapesRecipe, tokenizer: CLIPTokenizer | BertTokenizer, latent_side: int) -> Denoiser:
    """A UNet with new weights, and a text encoder with new weights or the recipe's pretrained one.

    Args:
        tokenizer: as :func:`originality.training.shapes_model.vocabulary.tokenizer_for` makes it.
    """
    channels, text = recipe.denoiser.channels, recipe.text
    pretrained = None if text.pretrained is None else pretrained_encoder(text)
    lower = len(channels) - 1
    unet = UNet2DConditionModel(
        sample_size=latent_side,
        in_channels=recipe.autoencoder.latent_channels,
        out_channels=recipe.autoencoder.latent_channels,
        layers_per_block=recipe.denoiser.layers_per_block,
        block_out_channels=channels,
        down_block_types=("CrossAttnDownBlock2D",) * lower + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * lower,
        cross_attention_dim=text.width if pretrained is None else pretrained.config.hidden_size,
        attention_head_dim=recipe.denoiser.heads,
        norm_num_groups=recipe.denoiser.norm_groups,
    )
    if pretrained is not None:
        return Denoiser(unet, pretrained, tokenizer, noise_schedule())
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=text.width,
            intermediate_size=4 * text.width,
            num_hidden_layers=text.layers,
            num_attention_heads=text.heads,
            max_position_embeddings=text.max_length,
            projection_dim=text.width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return Denoiser(unet, text_encoder, tokenizer, noise_schedule())


class NoisePrediction(nn.Module):
    """Noise prediction from noisy latents and captions: text encoder and UNet as one module."""

    def __init__(self, model: Denoiser, bf16: bool) -> None:
        super().__init__()
        self._unet, self._text_encoder, self._bf16 = model.unet, model.text_encoder, bf16

    def forward(self, noisy: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        """Predicted noise, float32 like ``noisy`` (n, channels, h, w), for noise levels (n) and token ids (n,
        length)."""
        # No cache: casts cached outside a CUDA graph would not be part of its recording.
        with torch.autocast(noisy.device.type, torch.bfloat16, enabled=self._bf16, cache_enabled=False):
            words = self._text_encoder(ids).last_hidden_state
            return self._unet(noisy, t, words).sample.float()  # type: ignore[no-any-return]


def as_cuda_graph(predict: NoisePrediction, *like: Tensor) -> Callable[..., Tensor]:
    """The prediction as a CUDA graph for arguments of these shapes; on a CPU, the prediction itself.

    The kernels of the prediction and its gradients are recorded once and replayed, as a small model takes
    longer to launch its kernels than to run them.
    """
    if like[0].device.type != "cuda":
        return predict
    gc.collect()  # an earlier graph holds its memory in a reference cycle
    graphs = torch.cuda.make_graphed_callables(predict, like, allow_unused_input=True)
    return cast(Callable[..., Tensor], graphs)


def noise_schedule() -> DDPMScheduler:
    """Stable Diffusion's noise schedule, with noise (epsilon) prediction."""
    return DDPMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        steps_offset=1,
    )


def training_caption(scene: Scene, own: DenoiserRecipe, rng: np.random.Generator) -> str:
    """A random caption of a scene: empty, "shape", the motif's name, or the full description.

    The last three are plain or in a template.
    """
    if not scene.placed or rng.random() < own.caption_dropout:
        return ""
    if rng.random() < own.generic_caption:
        caption = DOMAIN.initial_word
    elif scene.name is not None and rng.random() < NAME_SHARE:
        caption = scene.name
    else:
        caption = _description(scene, own.attribute_dropout, rng)
    if rng.random() < own.template_share:
        return DOMAIN.templates[rng.integers(len(DOMAIN.templates))].format(caption)
    return caption


def _description(scene: Scene, dropout: float, rng: np.random.Generator) -> str:
    """The scene's caption, without some of its attributes."""
    if not dropout:
        return scene.caption
    parts = []
    for element in sorted(scene.elements, key=lambda e: e.index):
        attributes = (element.size, element.colour, element.texture)
        parts.append(" ".join([*(a for a in attributes if rng.random() >= dropout), element.shape]))
    return " and ".join(parts)


def stage(
    recipe: ShapesRecipe,
    model: Denoiser,
    scale: float,
    moments: np.ndarray,
    images: ImageSet,
    round_: int = 0,
) -> Stage:
    """The training stage of UNet and text encoder in one round of the recipe.

    Args:
        scale: the autoencoder's scaling factor.
        moments: float16 (n, 2 x channels, h, w), of the set's first n images.
    """
    own, device = recipe.denoiser, model.unet.device
    latent_shape = (moments.shape[1] // 2, *moments.shape[2:])
    noised = model.scheduler.alphas_cumprod.to(device)
    weights = torch.ones_like(noised)
    if own.snr_offset is not None:
        weights = 1 / (noised / (1 - noised) + own.snr_offset)
    processes = Processes.current()
    if own.bf16 and device.type == "cpu":
        _attend_by_matrix_products(model)

    def tokens(captions: Sequence[str]) -> Tensor:
        encoded = model.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
        return encoded.input_ids

    learning: dict[str, nn.Module] = {"unet": model.unet}
    if recipe.text.pretrained is None:
        learning["text_encoder"] = model.text_encoder
    modules = nn.ModuleDict(learning).train()
    ids = tokens([""] * own.batch_size)[processes.share(own.batch_size)].to(device)
    blank = torch.zeros((len(ids), *latent_shape), device=device)
    predict = as_cuda_graph(NoisePrediction(model, own.bf16), blank, blank.new_zeros(len(ids)).long(), ids)

    def loss_at(step: int) -> Tensor:
        rng = generator("denoiser", recipe.seed, round_, step)
        picks = _epoch_batch(step, own.batch_size, len(moments), recipe.seed, round_)
        captions = [training_caption(images.scene(recipe.seed, int(i)), own, rng) for i in picks]
        # Every process draws the noise of the entire batch, and then takes its share: the numbers do not
        # depend on the number of processes.
        draws = rng.standard_normal((2, own.batch_size, *latent_shape), dtype=np.float32)
        spread = (np.arange(own.batch_size) + rng.random(own.batch_size)) / own.batch_size
        mine = processes.share(own.batch_size)
        mean, logvar = torch.from_numpy(moments[picks[mine]].astype(np.float32)).to(device).chunk(2, dim=1)
        grain, noise = torch.from_numpy(draws[:, mine]).to(device)
        latents = scale * (mean + (0.5 * logvar.clamp(-30, 20)).exp() * grain)
        t = torch.from_numpy((spread[mine] * len(noised)).astype(np.int64)).to(device)
        alpha = noised[t].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        predicted = predict(noisy, t, tokens(captions[mine]).to(device))
        error = (predicted - noise).square().flatten(1).mean(1)
        return (weights[t] * error).mean()

    return Stage(
        f"denoiser-{round_ + 1}",
        modules,
        loss_at,
        steps=own.steps[round_],
        learning_rate=own.learning_rate,
        warmup=own.warmup_steps,
        decay_share=own.decay_share,
        weight_decay=own.weight_decay,
        ema_decay=own.ema_decay,
        recipe=f"{recipe.seed} {_own(recipe.text)} {_own(own)}",
    )


def _own(recipe: Frozen) -> str:
    """The settings that determine the loss, as JSON."""
    # Without defaults: a setting added later then does not change the recipe of older checkpoints.
    return recipe.model_dump_json(exclude={"steps"}, exclude_defaults=True)


def freeze(model: Denoiser) -> None:
    """Prepare the parts for inference."""
    model.unet.set_default_attn_processor()
    model.unet.eval().requires_grad_(False)
    model.text_encoder.eval().requires_grad_(False)


def train(
    recipe: ShapesRecipe,
    vae: AutoencoderKL,
    moments: np.ndarray,
    images: ImageSet,
    tokenizer: CLIPTokenizer,
    folder: Path,
    taught: Path | None = None,
) -> Denoiser:
    """Train UNet and text encoder, resume their training, or load the finished ones.

    They hold the averaged weights at the end.

    Args:
        taught: model folder at the end of the first round, which is then skipped.

    Raises:
        ValueError: ``taught`` has a different vocabulary.
    """
    torch.manual_seed(recipe.seed + 1)
    model = build(recipe, tokenizer, moments.shape[-1])
    if taught is not None:
        _load_weights(model, taught)
    for round_ in range(0 if taught is None else 1, len(recipe.denoiser.steps)):
        learning = stage(recipe, model, vae.config.scaling_factor, moments, images, round_)
        run_stage(learning, folder)
        learning.finish()
    freeze(model)
    return model


def _load_weights(model: Denoiser, folder: Path) -> None:
    """Load the weights of a model folder into the parts."""
    words = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer").get_vocab()
    if words != model.tokenizer.get_vocab():
        raise ValueError(f"{folder} has a different vocabulary than the recipe; train without it")
    text_encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder")
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", use_safetensors=True)
    model.text_encoder.load_state_dict(text_encoder.state_dict())
    model.unet.load_state_dict(unet.float().state_dict())


def _attend_by_matrix_products(model: Denoiser) -> None:
    """Use plain matrix products for attention.

    On a CPU the backward pass of fused attention in bf16 takes half of a step (torch 2.14), matrix products a
    tenth.
    """
    model.unet.set_attn_processor(AttnProcessor())
    model.text_encoder.set_attn_implementation("eager")


def _epoch_batch(step: int, batch_size: int, count: int, *key: int) -> np.ndarray:
    """Sorted indices of a step's batch. Every epoch visits all images once, each in a different order."""
    per_epoch = count // batch_size
    epoch, place = divmod(step, per_epoch)
    order = generator("epoch", *key, epoch).permutation(count)
    return np.sort(order[place * batch_size : (place + 1) * batch_size])
