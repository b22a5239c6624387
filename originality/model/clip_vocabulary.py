"""CLIP's vocabulary, built from the merges that come with open_clip.

It is the tokenizer of all Stable Diffusion models here, for machines without access to the hub. CLIP's tokens
are 256 bytes, each written as one visible character; the same at a word's end; one for each of 48,894 merges;
and the two that begin and end a text: 49,408 in all.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from functools import cache
from pathlib import Path

from originality.contract.config import SettingsError

WORD_END = "</w>"
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = 49_408
LENGTH = 77
"""Tokens of a text, including the two that begin and end it."""

_MERGES = TOKENS - 2 * 256 - 2
"""The file holds many more merges, which CLIP does not use."""


def write_tokenizer(folder: Path, pad: str) -> Path:
    """Write a folder that transformers' CLIPTokenizer reads.

    Args:
        pad: the token that fills a text up to LENGTH.

    Raises:
        SettingsError: open_clip is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    merges = _merges()
    (folder / "vocab.json").write_text(json.dumps(_vocabulary(merges), ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": BEGIN,
        "eos_token": END,
        "unk_token": END,
        "pad_token": pad,
        "model_max_length": LENGTH,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return folder


@cache
def _merges() -> tuple[str, ...]:
    """Pairs of tokens that become one, most frequent first."""
    package = importlib.util.find_spec("open_clip")  # not imported: that takes seconds
    if package is None or not package.submodule_search_locations:
        raise SettingsError("CLIP's vocabulary comes with open_clip: pip install open_clip_torch")
    file = Path(package.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        next(lines)  # the file's version
        return tuple(line.rstrip("\n") for line, _ in zip(lines, range(_MERGES), strict=False))


def _vocabulary(merges: tuple[str, ...]) -> dict[str, int]:
    letters = _visible_bytes()
    tokens = [*letters, *(letter + WORD_END for letter in letters)]
    tokens += ["".join(merge.split(" ")) for merge in merges]
    return {token: number for number, token in enumerate([*tokens, BEGIN, END])}


def _visible_bytes() -> list[str]:
    """A visible character for each byte: the visible ones of Latin-1 stand for themselves and come first; the
    others get characters beyond Latin-1."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in visible] + [chr(256 + n) for n in range(256 - len(visible))]
