"""The small model's vocabulary: a CLIP tokenizer in which each of its words is one token."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from originality.prompts import vocabulary
from originality.synthetic.motifs import motif_names
from originality.synthetic.world import CAPTION_WORDS

START, END = "<|startoftext|>", "<|endoftext|>"


def all_words() -> tuple[str, ...]:
    """Caption words, motif names, and the words of templates, prompts and initial words."""
    return tuple(sorted({*CAPTION_WORDS, *motif_names(), *vocabulary()}))


def save_tokenizer(words: Iterable[str], max_length: int, folder: Path) -> CLIPTokenizer:
    """Write a CLIP tokenizer whose merges make one token of each word; other words fall into letters.

    Merging is learned to the end on a list that names each word once, so that no word stays in pieces.
    """
    words = sorted(words)
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        words,
        trainers.BpeTrainer(
            vocab_size=100_000,
            min_frequency=1,
            end_of_word_suffix="</w>",
            initial_alphabet=sorted(letters),
            show_progress=False,
        ),
    )
    merges = json.loads(bpe.to_str())["model"]["merges"]
    pieces = sorted(letters) + [letter + "</w>" for letter in sorted(letters)]
    pieces += [a + b for a, b in merges]
    vocab = {piece: k for k, piece in enumerate(dict.fromkeys(pieces))}
    vocab[START], vocab[END] = len(vocab), len(vocab) + 1
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[tuple(m) for m in merges], model_max_length=max_length)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    broken = [w for w in words if len(tokenizer(w)["input_ids"]) != 3]
    if broken:
        raise ValueError(f"words that are not one token: {', '.join(broken)}")
    return tokenizer
