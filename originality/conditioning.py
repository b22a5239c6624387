"""Prompts with pseudo-words, as the text encoder sees them (paper Section 3.1, S* = e(t1) ... e(tm)).

The m learned vectors take the places of ``{}`` in a prompt. They are put in where the token table's output
is read, for the length of one call: neither the tokenizer nor the table is ever changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from originality.settings import SettingsError


@dataclass(frozen=True)
class Prompts:
    """Tokenised prompts of one pseudo-word length.

    ids: int64 (n, length), places of pseudo-tokens hold the padding token.
    slots: int64 (n, length), the pseudo-token's number 0..m-1 at its place, -1 elsewhere.
    """

    ids: Tensor
    slots: Tensor


def tokenise(tokenizer: Any, templates: Sequence[str], tokens: int) -> Prompts:
    """Tokenise templates with a pseudo-word of ``tokens`` tokens in the place of ``{}``.

    Raises:
        SettingsError: a template is too long for the text encoder with that many tokens in it.
    """
    length = tokenizer.model_max_length
    pad = tokenizer.pad_token_id
    ids, slots = [], []
    for template in templates:
        row, places = [tokenizer.bos_token_id], [-1]
        for k, part in enumerate(template.split("{}")):
            if k:
                row += [pad] * tokens
                places += range(tokens)
            words = tokenizer(part, add_special_tokens=False)["input_ids"]
            row += words
            places += [-1] * len(words)
        row.append(tokenizer.eos_token_id)
        if len(row) > length:
            raise SettingsError(
                f"template {template!r} with {tokens} pseudo-tokens has {len(row)} tokens, the model "
                f"reads {length}; shorten the template or lower max_tokens"
            )
        ids.append(row + [pad] * (length - len(row)))
        slots.append(places + [-1] * (length - len(places)))
    return Prompts(torch.tensor(ids), torch.tensor(slots))


def encode(text_encoder: nn.Module, prompts: Prompts, vectors: Tensor | None) -> Tensor:
    """Run the text encoder on prompts with their own pseudo-words.

    Args:
        prompts: n prompts.
        vectors: float32 (n, m, width), the pseudo-word of each prompt; None where none holds one.

    Returns:
        (n, length, width) hidden states for the UNet's cross-attention.
    """
    if vectors is None:
        return text_encoder(prompts.ids)[0]
    with _injected(text_encoder.get_input_embeddings(), prompts.slots, vectors):  # type: ignore[operator]
        return text_encoder(prompts.ids)[0]


@contextmanager
def _injected(table: nn.Module, slots: Tensor, vectors: Tensor) -> Iterator[None]:
    """While open, the token table gives a pseudo-token's own vector at its place."""
    at = slots.clamp_min(0)[..., None].expand(-1, -1, vectors.shape[-1])
    taken = (slots >= 0)[..., None]

    def put_in(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
        return torch.where(taken, vectors.gather(1, at).to(output.dtype), output)

    handle = table.register_forward_hook(put_in)
    try:
        yield
    finally:
        handle.remove()


def single_token(tokenizer: Any, word: str) -> int:
    """The token of a domain's initial word.

    Raises:
        SettingsError: the word is not a single token of the model.
    """
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise SettingsError(
            f"initial word {word!r} is {len(ids)} tokens of this model; choose another --domain or model"
        )
    return int(ids[0])


def word_vector(tokenizer: Any, text_encoder: nn.Module, word: str) -> Tensor:
    """The token embedding of a domain's initial word: float32 (width,).

    Raises:
        SettingsError: the word is not a single token of the model.
    """
    table = text_encoder.get_input_embeddings()  # type: ignore[operator]
    return table.weight[single_token(tokenizer, word)].detach().float().clone()
