"""Learned words as files that other tools read: one .safetensors a word, no pickles.

What the readers do, by their sources:

- AUTOMATIC1111/stable-diffusion-webui, modules/textual_inversion/textual_inversion.py
  (``create_embedding_from_data``): a file with "clip_g" and "clip_l" is a word of SDXL; any other must hold
  exactly one tensor, (m, width), of whatever name. The word is called as the file.
- ComfyUI, comfy/sd1_clip.py (``load_embed``): the tensor named for the text encoder that asks ("clip_l", for
  SDXL also "clip_g") or else the first one. The prompt says ``embedding:NAME``, where NAME is the file's.
- diffusers, loaders/textual_inversion.py: a file with exactly one tensor, called by its key or by ``token=``;
  SDXL's two tensors are handed over one by one, each with its tokenizer and text encoder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from originality.contract import checksum

SECOND = ".text_encoder_2"
"""Ends the name of the part of a word that is SDXL's second text encoder's."""

_NAME = re.compile(r"<s(\d+)>(" + re.escape(SECOND) + ")?", re.ASCII)
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Word:
    """A learned word of m tokens."""

    vectors: np.ndarray
    """float32 (m, width): for the text encoder, or the first of two."""
    second: np.ndarray | None = None
    """float32 (m, width) for the second text encoder."""

    def file(self) -> bytes:
        """The word as A1111, ComfyUI and (with one text encoder) diffusers read it."""
        parts = {"emb_params": self.vectors}
        if self.second is not None:
            parts = {"clip_l": self.vectors, "clip_g": self.second}
        return safetensors.numpy.save({name: np.ascontiguousarray(part) for name, part in parts.items()})


def words_of(tokens: bytes) -> dict[int, Word]:
    """The words of an image's tokens.safetensors, by their number of tokens.

    Raises:
        ValueError: it is none, or damaged.
    """
    checksum.check(tokens)
    try:
        parts = safetensors.numpy.load(tokens)
    except SafetensorError as error:
        raise ValueError(f"no safetensors: {error}") from error
    return {m: _word(parts, m) for m in sorted(map(_tokens_of, parts))}


def _tokens_of(name: str) -> int:
    named = _NAME.fullmatch(name)
    if named is None:
        raise ValueError(f"{name!r} is the name of no word")
    return int(named[1])


def _word(parts: Mapping[str, np.ndarray], tokens: int) -> Word:
    name = f"<s{tokens}>"
    vectors, second = parts.get(name), parts.get(name + SECOND)
    for part in (vectors, second):
        if part is not None and (part.ndim != 2 or len(part) != tokens):
            raise ValueError(f"{name} has the shape {part.shape}")
    if vectors is None:
        raise ValueError(f"{name} has a second part only")
    return Word(vectors, second)


def file_name(path: str, image_id: str, tokens: int) -> str:
    """What a word's file is called, and with it the word: the image's own name, as far as it says nothing to
    a file system or a prompt, its id and the number of tokens."""
    stem = path.rpartition("/")[2].rpartition(".")[0]
    plain = re.sub(r"[^a-z0-9]+", "-", stem.lower())[:_LONGEST_NAME].strip("-")
    return "-".join(filter(None, (plain, image_id[:12], f"m{tokens}"))) + ".safetensors"
