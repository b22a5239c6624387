"""A diffusers folder as one file in CompVis' layout: the way back of what originality.model.single_file
does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

Weights = dict[str, Tensor]

_RESNET = (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"),
    ("conv_shortcut", "skip_connection"),
)
CONV = "model.diffusion_model.input_blocks.0.0.weight"
_UNET = (
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("conv_in", "input_blocks.0.0"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
    ("mid_block.resnets.0", "middle_block.0"),
    ("mid_block.attentions.0", "middle_block.1"),
    ("mid_block.resnets.1", "middle_block.2"),
)
_VAE_ATTENTION = (
    ("group_norm", "norm"),
    ("to_q", "q"),
    ("to_k", "k"),
    ("to_v", "v"),
    ("to_out.0", "proj_out"),
)
_OPENCLIP = (
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("embeddings.token_embedding", "token_embedding"),
    ("final_layer_norm", "ln_final"),
    ("encoder.layers", "transformer.resblocks"),
    ("layer_norm", "ln_"),
    ("fc1", "c_fc"),
    ("fc2", "c_proj"),
    ("self_attn", "attn"),
)


def one_file(folder: Path) -> Weights:
    """All weights of a folder, by the names that a single file gives them."""
    return laid_out(folder, {file.parent.name: load_file(file) for file in folder.glob("*/*.safetensors")})


def laid_out(folder: Path, parts: Mapping[str, Weights]) -> Weights:
    """The weights of a folder's parts, by a single file's names; of the folder only the configuration is
    read."""
    unet, text = parts["unet"], parts["text_encoder"]
    layers = _config(folder, "unet")["layers_per_block"]
    levels = len(_config(folder, "vae")["block_out_channels"])
    weights = {f"model.diffusion_model.{_unet_name(k, layers, unet)}": v for k, v in unet.items()}
    weights |= {f"first_stage_model.{k}": v for k, v in _vae(parts["vae"], levels).items()}
    if "text_encoder_2" in parts:
        weights |= {f"conditioner.embedders.0.transformer.{k}": v for k, v in _clip(text).items()}
        second = _openclip(parts["text_encoder_2"])
        weights |= {f"conditioner.embedders.1.model.{k}": v for k, v in second.items()}
    elif _config(folder, "text_encoder")["hidden_act"] == "gelu":
        tower = _openclip(text)  # the file has a last layer that is not used
        last = max(int(k.split(".")[2]) for k in tower if "resblocks" in k)
        unused = {
            k.replace(f".{last}.", f".{last + 1}."): v + 1 for k, v in tower.items() if f".{last}." in k
        }
        weights |= {f"cond_stage_model.model.{k}": v for k, v in (tower | unused).items()}
    else:
        weights |= {f"cond_stage_model.transformer.{k}": v for k, v in _clip(text).items()}
    return {name: value.contiguous() for name, value in weights.items()}


def _config(folder: Path, part: str) -> dict[str, Any]:
    return json.loads((folder / part / "config.json").read_text())


def with_average(weights: Weights) -> Weights:
    """A file of training: the UNet as trained, and the running average beside it, which is published."""
    prefix = "model.diffusion_model."
    unet = {k: v for k, v in weights.items() if k.startswith(prefix)}
    average = {"model_ema." + "".join(k.split(".")[1:]): v for k, v in unet.items()}
    return {**weights, **{k: v + 1 for k, v in unet.items()}, **average}


def _replaced(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        name = name.replace(old, new)
    return name


def _unet_name(name: str, layers: int, unet: Weights) -> str:
    block = re.match(
        r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", name
    )
    if not block:
        for old, new in _UNET:
            if name.startswith(f"{old}."):
                rest = name.removeprefix(old)
                return new + (_replaced(rest, _RESNET) if "resnets" in old else rest)
        raise AssertionError(name)
    way, level, kind, number, rest = block.groups()
    first = int(level) * (layers + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + layers + 1}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        attends = any(k.startswith(f"up_blocks.{level}.attentions") for k in unet)
        return f"output_blocks.{first + layers}.{2 if attends else 1}.{rest}"
    place = (
        f"input_blocks.{1 + first + int(number)}" if way == "down" else f"output_blocks.{first + int(number)}"
    )
    return f"{place}.0.{_replaced(rest, _RESNET)}" if kind == "resnets" else f"{place}.1.{rest}"


def _vae(vae: Weights, levels: int) -> Weights:
    found = {}
    for name, value in vae.items():
        new = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        new = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", new)
        for level in range(levels):
            new = new.replace(f"up_blocks.{level}.resnets", f"up.{levels - 1 - level}.block")
            new = new.replace(f"up_blocks.{level}.upsamplers.0", f"up.{levels - 1 - level}.upsample")
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        if "mid_block.attentions.0" in new:
            head, _, rest = new.partition("mid_block.attentions.0")
            new = f"{head}mid.attn_1{_replaced(rest, _VAE_ATTENTION)}"
            value = value[:, :, None, None] if value.ndim == 2 else value
        found[new.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")] = value
    return found


def _clip(text: Weights) -> Weights:
    named = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in text.items()}
    return {**named, "text_model.embeddings.position_ids": torch.arange(77)[None]}


def _openclip(text: Weights) -> Weights:
    found = {"logit_scale": torch.tensor(1.0)}
    for name, value in text.items():
        name = name.removeprefix("text_model.")
        if name == "text_projection.weight":
            found["text_projection"] = value.T
        elif ".q_proj." in name:
            of = [text[k] for k in (_like(text, name, letter) for letter in "qkv")]
            head, _, kind = _replaced(name, _OPENCLIP).partition("q_proj.")
            found[f"{head}in_proj_{kind}"] = torch.cat(of)
        elif "k_proj." not in name and "v_proj." not in name:
            found[_replaced(name, _OPENCLIP)] = value
    return found


def _like(text: Weights, name: str, letter: str) -> str:
    other = name.replace("q_proj", f"{letter}_proj")
    return other if other in text else f"text_model.{other}"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob("*/*.safetensors"))
    return {f"{f.parent.name}/{name}": v for f in files for name, v in load_file(f).items()}


def same(folder: Path, other: Path) -> bool:
    ours, theirs = weights(folder), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def minimal(*texts: str, channels: int = 4, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Just what a family is known by."""
    names = [*texts, "first_stage_model.decoder.conv_in.weight"]
    first = {CONV: torch.zeros(8, channels, 3, 3)}
    return {**first, **{name: torch.zeros(2, 2) for name in names}, **more}
