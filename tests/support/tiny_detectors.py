"""Small detectors of subjects with random weights, in folders as transformers writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf

from originality.model.diffusers_folder import MODELS

_LABELS = {0: "N/A", 1: "person", 2: "Cat", 3: "dog", 4: "motorcycle"}
_SIDE = {"shortest_edge": 64, "longest_edge": 64}


def tiny_clip(folder: Path) -> Path:
    """CLIPModel with the words of the model that ships."""
    tokenizer = tf.CLIPTokenizer.from_pretrained(MODELS / "shapes" / "tokenizer")
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = tf.CLIPConfig(
        text_config={**tower, **words, "max_position_embeddings": 20},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    tokenizer.save_pretrained(folder)
    side = {"height": 32, "width": 32}
    return _save(folder, lambda: tf.CLIPModel(config), tf.CLIPImageProcessor(size=side, crop_size=side))


def yolos(folder: Path) -> Path:
    config = tf.YolosConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=[64, 64],
        patch_size=16,
        num_detection_tokens=7,
        id2label=_LABELS,
    )
    return _save(folder, lambda: tf.YolosForObjectDetection(config), tf.YolosImageProcessor(size=_SIDE))


def detr(folder: Path) -> Path:
    config = tf.DetrConfig(**_detr(1))
    return _save(folder, lambda: tf.DetrForObjectDetection(config), tf.DetrImageProcessor(size=_SIDE))


def conditional_detr(folder: Path) -> Path:
    config = tf.ConditionalDetrConfig(**_detr(2))
    processor = tf.ConditionalDetrImageProcessor(size=_SIDE)
    return _save(folder, lambda: tf.ConditionalDetrForObjectDetection(config), processor)


def rt_detr(folder: Path) -> Path:
    config = tf.RTDetrConfig(
        backbone_config=tf.RTDetrResNetConfig(**_RESNET, out_features=["stage2", "stage3", "stage4"]),
        encoder_hidden_dim=32,
        encoder_in_channels=[8, 16, 16],
        encoder_layers=1,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_in_channels=[32, 32, 32],
        decoder_layers=1,
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        d_model=32,
        num_queries=7,
        id2label=_LABELS,
    )
    processor = tf.RTDetrImageProcessor(size={"height": 64, "width": 64})
    return _save(folder, lambda: tf.RTDetrForObjectDetection(config), processor)


OBJECT_DETECTORS: dict[str, Callable[[Path], Path]] = {
    "yolos": yolos,
    "detr": detr,
    "conditional_detr": conditional_detr,
    "rt_detr": rt_detr,
}

_RESNET: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}


def _detr(decoder_layers: int) -> dict[str, Any]:
    return {
        "backbone_config": tf.ResNetConfig(**_RESNET, out_features=["stage4"]),
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": decoder_layers,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "num_queries": 7,
        "id2label": _LABELS,
    }


def _save(folder: Path, build: Callable[[], Any], processor: Any) -> Path:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = build()
        for weights in network.parameters():
            if weights.ndim == 2:  # transformers' small first weights would tell no image from another
                weights.normal_(0, weights.shape[-1] ** -0.5)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
