"""Prompts with pseudo-words, as the text encoders see them (paper Section 3.1, S* = e(t1) ... e(tm)).

The m learned vectors take the places of ``{}`` in a prompt. They are put in where the token table's output
is read, for the length of one call: neither the tokenizer nor the table is ever changed.

Stable Diffusion XL reads a prompt with two encoders. A pseudo-token is then one vector that is both tables'
rows, the first encoder's part before the second's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from originality.contract.config import SettingsError
from originality.model.device_transfers import to_device
from originality.model.embedding_files import SECOND


@dataclass(frozen=True)
class Prompts:
    """Tokenised prompts of one pseudo-word length.

    ids: int64 (n, encoders, length). Places of pseudo-tokens hold the token of a text's begin: a pad may be
        an end, and an encoder that sums up a text at its end would take the first.
    slots: int64 (n, length), the pseudo-token's number 0..m-1 at its place, -1 elsewhere.
    """

    ids: Tensor
    slots: Tensor

    def select(self, numbers: Tensor) -> Prompts:
        """The prompts of these numbers, int64 (k,)."""
        return Prompts(self.ids[numbers], self.slots[numbers])

    @staticmethod
    def concatenate(parts: Sequence[Prompts]) -> Prompts:
        return Prompts(torch.cat([p.ids for p in parts]), torch.cat([p.slots for p in parts]))

    def to_device(self, device: torch.device) -> Prompts:
        """On the device, for which the host does not wait."""
        return Prompts(to_device(self.ids, device), to_device(self.slots, device))


@dataclass(frozen=True)
class PromptEmbeddings:
    """What a UNet is told.

    states: (n, length, width), what it attends to.
    pooled: (n, size), a text in one vector, where the UNet wants it (SDXL).
    """

    states: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.states)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.states,) if self.pooled is None else (self.states, self.pooled)

    def detached(self) -> PromptEmbeddings:
        """The same numbers, at which a way back through what reads them ends."""
        return PromptEmbeddings(*(tensor.detach().requires_grad_() for tensor in self.tensors))

    def to(self, dtype: torch.dtype) -> PromptEmbeddings:
        return PromptEmbeddings(self.states.to(dtype), None if self.pooled is None else self.pooled.to(dtype))

    def select(self, numbers: Tensor) -> PromptEmbeddings:
        """Those of these prompts, int64 (k,)."""
        return PromptEmbeddings(self.states[numbers], None if self.pooled is None else self.pooled[numbers])

    def repeat_prompt(self, n: int) -> PromptEmbeddings:
        """One prompt's words n times."""
        pooled = None if self.pooled is None else self.pooled.expand(n, -1)
        return PromptEmbeddings(self.states.expand(n, -1, -1), pooled)

    def zeros(self) -> PromptEmbeddings:
        """Zeros of the same shape."""
        pooled = None if self.pooled is None else torch.zeros_like(self.pooled)
        return PromptEmbeddings(torch.zeros_like(self.states), pooled)

    def split(self, size: int) -> list[PromptEmbeddings]:
        pooled = [None] * len(self) if self.pooled is None else self.pooled.split(size)
        return [PromptEmbeddings(s, p) for s, p in zip(self.states.split(size), pooled, strict=False)]

    @staticmethod
    def concatenate(parts: Sequence[PromptEmbeddings]) -> PromptEmbeddings:
        pooled = [p.pooled for p in parts if p.pooled is not None]
        return PromptEmbeddings(torch.cat([p.states for p in parts]), torch.cat(pooled) if pooled else None)


def tokenise(tokenizers: Sequence[Any], templates: Sequence[str], tokens: int) -> Prompts:
    """Tokenise templates with a pseudo-word of ``tokens`` tokens in the place of ``{}``.

    Args:
        tokenizers: one an encoder; they differ in what they pad with.

    Raises:
        SettingsError: a template is too long for the text encoder with that many tokens in it.
    """
    rows = [[_row(tokenizer, template, tokens) for template in templates] for tokenizer in tokenizers]
    ids = torch.tensor([[ids for ids, _ in of_encoder] for of_encoder in rows]).transpose(0, 1)
    return Prompts(ids, torch.tensor([slots for _, slots in rows[0]]))


def _row(tokenizer: Any, template: str, tokens: int) -> tuple[list[int], list[int]]:
    """Ids and slots of one template."""
    length = tokenizer.model_max_length
    begin, end = ends(tokenizer)
    ids, slots = [begin], [-1]
    for k, part in enumerate(template.split("{}")):
        if k:
            ids += [begin] * tokens
            slots += range(tokens)
        words = tokenizer(part, add_special_tokens=False)["input_ids"]
        ids += words
        slots += [-1] * len(words)
    ids.append(end)
    if len(ids) > length:
        raise SettingsError(
            f"template {template!r} with {tokens} pseudo-tokens has {len(ids)} tokens, the model "
            f"reads {length}; shorten the template or lower max_tokens"
        )
    missing = length - len(ids)
    slots += [-1] * (length - len(slots))
    return ids + [tokenizer.pad_token_id] * missing, slots


def ends(tokenizer: Any) -> tuple[int, int]:
    """The tokens that begin and end a text; BERT's have names of their own."""
    if tokenizer.bos_token_id is None:
        return tokenizer.cls_token_id, tokenizer.sep_token_id
    return tokenizer.bos_token_id, tokenizer.eos_token_id


class TextEncoders:
    """A model's text encoder, or SDXL's two, with their tokenizers."""

    def __init__(self, tokenizers: Sequence[Any], encoders: Sequence[nn.Module]) -> None:
        self.tokenizers, self.encoders = tuple(tokenizers), tuple(encoders)
        self.tables: list[nn.Embedding] = [e.get_input_embeddings() for e in encoders]  # type: ignore[operator]

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of each table's rows; a pseudo-token has as many as all of them."""
        return tuple(table.embedding_dim for table in self.tables)

    def tokenise(self, templates: Sequence[str], tokens: int) -> Prompts:
        """See :func:`tokenise`."""
        return tokenise(self.tokenizers, templates, tokens)

    def encode(self, prompts: Prompts, vectors: Tensor | None) -> PromptEmbeddings:
        """Run the encoders on n prompts with their own pseudo-words.

        Args:
            vectors: float32 (n, m, sum of widths), the pseudo-word of each prompt; None where none holds one.
        """
        with ExitStack() as stack:
            if vectors is not None:
                for table, own in zip(self.tables, vectors.split(self.widths, dim=-1), strict=True):
                    stack.enter_context(_injected(table, prompts.slots, own))
            if len(self.encoders) == 1:
                return PromptEmbeddings(self.encoders[0](prompts.ids[:, 0])[0])
            said = [
                encoder(prompts.ids[:, k], output_hidden_states=True)
                for k, encoder in enumerate(self.encoders)
            ]
        # SDXL reads the last state but one of both, and what the second makes of the whole text.
        return PromptEmbeddings(torch.cat([s.hidden_states[-2] for s in said], dim=-1), said[-1][0])

    def split_by_encoder(self, name: str, vectors: Tensor) -> dict[str, Tensor]:
        """A pseudo-word (m, sum of widths) as it is kept: the first encoder's part under its name, the
        second's under "<name>.text_encoder_2", each as diffusers' ``load_textual_inversion`` takes it."""
        names = (name, name + SECOND)
        return {n: v.contiguous() for n, v in zip(names, vectors.split(self.widths, dim=-1), strict=False)}

    def word_vector(self, word: str, several: Literal["one", "mean"] = "one") -> Tensor:
        """The token embedding of an initial word, or the mean of several: float32 (sum of widths,).

        Raises:
            SettingsError: as of :func:`word_tokens`.
        """
        rows = [
            table.weight[word_tokens(tokenizer, word, several)].detach().float().mean(0)
            for tokenizer, table in zip(self.tokenizers, self.tables, strict=True)
        ]
        return torch.cat(rows)


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


def word_tokens(tokenizer: Any, word: str, several: Literal["one", "mean"] = "one") -> list[int]:
    """The tokens of an initial word: one, or with ``several`` "mean" any number.

    Raises:
        SettingsError: the model has no token for the word, or several and ``several`` is "one".
    """
    ids: list[int] = tokenizer(word, add_special_tokens=False)["input_ids"]
    what = f"initial word {quote_word(word)}"
    unsaid = {*ends(tokenizer), tokenizer.unk_token_id}
    if not ids or unsaid & set(ids):
        raise SettingsError(f"{what} is nothing that this model has a token for; choose another word")
    if len(ids) > 1 and several == "one":
        raise SettingsError(
            f"{what} is {len(ids)} tokens of this model; choose another word, domain or model, or set "
            "inversion.initial_tokens to mean"
        )
    return ids


def quote_word(word: str) -> str:
    """A word as messages quote it: whatever it holds, it stays short and on one line."""
    return ascii(word if len(word) <= 40 else f"{word[:40]}…")
