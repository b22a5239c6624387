"""Pseudo-words as files that other tools read: one .safetensors file a word, no pickles.

How these tools read them, by their source code:

- AUTOMATIC1111/stable-diffusion-webui, modules/textual_inversion/textual_inversion.py
  (``create_embedding_from_data``): a file with "clip_g" and "clip_l" is a word of SDXL; any other must hold
  exactly one tensor, (m, width), of any name. The word's name is the file's.
- ComfyUI, comfy/sd1_clip.py (``load_embed``): the tensor named for the text encoder that reads it ("clip_l",
  for SDXL also "clip_g"), otherwise the first one. Prompts say ``embedding:NAME``, by the file's name.
- diffusers, loaders/textual_inversion.py: a file with exactly one tensor, named by its key or by ``token=``;
  SDXL's two tensors are passed one by one, each with its tokenizer and text encoder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from originality.contract import checksum

SECOND_ENCODER = ".text_encoder_2"
"""Suffix of the name under which a word's vectors for SDXL's second text encoder are stored."""

_NAME = re.compile(r"<s(\d+)>(" + re.escape(SECOND_ENCODER) + ")?", re.ASCII)
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Word:
    """A pseudo-word of m tokens."""

    vectors: np.ndarray
    """float32 (m, width) for the text encoder, or the first of two."""
    second: np.ndarray | None = None
    """float32 (m, width) for SDXL's second text encoder; None for other models."""

    def file(self) -> bytes:
        """Content of a file that A1111, ComfyUI and (with one text encoder) diffusers read."""
        parts = {"emb_params": self.vectors}
        if self.second is not None:
            parts = {"clip_l": self.vectors, "clip_g": self.second}
        return safetensors.numpy.save({name: np.ascontiguousarray(part) for name, part in parts.items()})


def words_of(tokens: bytes) -> dict[int, Word]:
    """Read an image's tokens.safetensors: its words by number of tokens.

    Raises:
        ValueError: the file is damaged, or not a tokens.safetensors.
    """
    checksum.check(tokens)
    try:
        parts = safetensors.numpy.load(tokens)
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}") from error
    return {m: _word(parts, m) for m in sorted(map(_tokens_of, parts))}


def _tokens_of(name: str) -> int:
    named = _NAME.fullmatch(name)
    if named is None:
        raise ValueError(f"{name!r} is not the name of a pseudo-word")
    return int(named[1])


def _word(parts: Mapping[str, np.ndarray], tokens: int) -> Word:
    name = f"<s{tokens}>"
    vectors, second = parts.get(name), parts.get(name + SECOND_ENCODER)
    for part in (vectors, second):
        if part is not None and (part.ndim != 2 or len(part) != tokens):
            raise ValueError(f"{name} has the shape {part.shape}, not ({tokens}, width)")
    if vectors is None:
        raise ValueError(f"{name} has only the part of the second text encoder")
    return Word(vectors, second)


def file_name(path: str, image_id: str, tokens: int) -> str:
    """Name of a word's file, and thus of the word in prompts: the image's name, its id and the number of
    tokens. Characters that mean something to a file system or in a prompt become "-"."""
    stem = path.rpartition("/")[2].rpartition(".")[0]
    plain = re.sub(r"[^a-z0-9]+", "-", stem.lower())[:_LONGEST_NAME].strip("-")
    return "-".join(filter(None, (plain, image_id[:12], f"m{tokens}"))) + ".safetensors"
