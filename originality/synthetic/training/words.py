"""The small model's vocabulary: a CLIP tokenizer in which each of its words is one token."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from originality.prompts import vocabulary
from originality.synthetic.motifs import motif_names
from originality.synthetic.world import CAPTION_WORDS

START, END = "<|startoftext|>", "<|endoftext|>"


def all_words() -> tuple[str, ...]:
    """Caption words, motif names, and the words of templates, prompts and initial words."""
    return tuple(sorted({*CAPTION_WORDS, *motif_names(), *vocabulary()}))


def learn_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Byte pair encoding of a list of ASCII words, until each is one piece; the most frequent pair first, of
    equally frequent ones the first by name. (The tokenizers library breaks such ties by chance.)"""
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
    """Write a CLIP tokenizer whose merges make one token of each word; other words fall into letters.

    Merging is learned to the end on a list that names each word once, so that no word stays in pieces. The
    same words always give the same ids: every process of a training, and every resume, must agree on them.
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
