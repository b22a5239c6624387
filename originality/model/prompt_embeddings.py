"""Prompts with pseudo-words, and their embeddings (paper Section 3.1, S* = e(t1) ... e(tm)).

The m learned vectors of a pseudo-word take the place of ``{}`` in a prompt. They replace rows of the token
table's output during one call; neither the tokenizer nor the table is changed. So prompts with different
pseudo-words share a pass, and gradients reach the learned vectors and nothing else.

Stable Diffusion XL reads a prompt with two encoders. A pseudo-token is then one vector: the first encoder's
embedding followed by the second's.
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
from originality.model.embedding_files import SECOND_ENCODER


@dataclass(frozen=True)
class Prompts:
    """Tokenised prompts with pseudo-words of one length.

    ids: int64 (n, encoders, length). The position of a pseudo-token holds the token that begins a text. It
        must not be the padding token: that may be the end token too, and an encoder that pools a text at its
        first end token would pool it in the middle of the prompt.
    slots: int64 (n, length), the pseudo-token's number 0..m-1 at its position, -1 elsewhere.
    """

    ids: Tensor
    slots: Tensor

    def select(self, rows: Tensor) -> Prompts:
        """The prompts of these rows, int64 (k,)."""
        return Prompts(self.ids[rows], self.slots[rows])

    @staticmethod
    def concatenate(parts: Sequence[Prompts]) -> Prompts:
        """Prompts one after the other, in the order of the parts."""
        return Prompts(torch.cat([p.ids for p in parts]), torch.cat([p.slots for p in parts]))

    def to_device(self, device: torch.device) -> Prompts:
        """A copy on the device; the host does not wait for it."""
        return Prompts(to_device(self.ids, device), to_device(self.slots, device))


@dataclass(frozen=True)
class PromptEmbeddings:
    """Text conditioning passed to the UNet, for n prompts.

    states: (n, length, width), hidden states for cross-attention.
    pooled: (n, size), one vector a text, for a UNet that reads it (SDXL); None for others.
    """

    states: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.states)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors, for operations that need no names: states, and pooled states if there are any."""
        return (self.states,) if self.pooled is None else (self.states, self.pooled)

    def detached(self) -> PromptEmbeddings:
        """Detached copies that require gradients: backpropagation through the UNet stops here, and through
        the text encoders it starts from these gradients."""
        return PromptEmbeddings(*(tensor.detach().requires_grad_() for tensor in self.tensors))

    def to(self, dtype: torch.dtype) -> PromptEmbeddings:
        """The same embeddings in a different dtype."""
        return PromptEmbeddings(self.states.to(dtype), None if self.pooled is None else self.pooled.to(dtype))

    def select(self, rows: Tensor) -> PromptEmbeddings:
        """Embeddings of these rows, int64 (k,)."""
        return PromptEmbeddings(self.states[rows], None if self.pooled is None else self.pooled[rows])

    def repeat_prompt(self, n: int) -> PromptEmbeddings:
        """A single prompt's embeddings n times, without copying them."""
        pooled = None if self.pooled is None else self.pooled.expand(n, -1)
        return PromptEmbeddings(self.states.expand(n, -1, -1), pooled)

    def zeros(self) -> PromptEmbeddings:
        """Zeros of the same shapes."""
        pooled = None if self.pooled is None else torch.zeros_like(self.pooled)
        return PromptEmbeddings(torch.zeros_like(self.states), pooled)

    def split(self, size: int) -> list[PromptEmbeddings]:
        """Consecutive parts of ``size`` prompts; the last may be shorter."""
        pooled = [None] * len(self) if self.pooled is None else self.pooled.split(size)
        return [PromptEmbeddings(s, p) for s, p in zip(self.states.split(size), pooled, strict=False)]

    @staticmethod
    def concatenate(parts: Sequence[PromptEmbeddings]) -> PromptEmbeddings:
        """Embeddings of the prompts of all parts, in their order."""
        pooled = [p.pooled for p in parts if p.pooled is not None]
        return PromptEmbeddings(torch.cat([p.states for p in parts]), torch.cat(pooled) if pooled else None)


def tokenise(tokenizers: Sequence[Any], templates: Sequence[str], tokens: int) -> Prompts:
    """Tokenise templates with a pseudo-word of ``tokens`` tokens in place of ``{}``.

    Args:
        tokenizers: one for each encoder; they differ in their padding token.

    Raises:
        SettingsError: with that many tokens, a template is longer than the text encoder reads.
    """
    rows = [[_row(tokenizer, template, tokens) for template in templates] for tokenizer in tokenizers]
    ids = torch.tensor([[ids for ids, _ in of_encoder] for of_encoder in rows]).transpose(0, 1)
    return Prompts(ids, torch.tensor([slots for _, slots in rows[0]]))


def _row(tokenizer: Any, template: str, tokens: int) -> tuple[list[int], list[int]]:
    """Ids and slots of one template."""
    length = tokenizer.model_max_length
    begin, end = begin_and_end(tokenizer)
    ids, slots = [begin], [-1]
    for k, part in enumerate(template.split("{}")):
        if k:
            ids += [begin] * tokens
            slots += range(tokens)
        part_ids = tokenizer(part, add_special_tokens=False)["input_ids"]
        ids += part_ids
        slots += [-1] * len(part_ids)
    ids.append(end)
    if len(ids) > length:
        raise SettingsError(
            f"template {template!r} with {tokens} pseudo-tokens has {len(ids)} tokens, the model "
            f"reads {length}; shorten the template or lower max_tokens"
        )
    missing = length - len(ids)
    slots += [-1] * (length - len(slots))
    return ids + [tokenizer.pad_token_id] * missing, slots


def begin_and_end(tokenizer: Any) -> tuple[int, int]:
    """Ids of the tokens that begin and end a text. BERT's tokenizer calls them cls and sep."""
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
        """Width of each encoder's token table; a pseudo-token is as wide as all of them together."""
        return tuple(table.embedding_dim for table in self.tables)

    def tokenise(self, templates: Sequence[str], tokens: int) -> Prompts:
        """See :func:`tokenise`."""
        return tokenise(self.tokenizers, templates, tokens)

    def encode(self, prompts: Prompts, vectors: Tensor | None) -> PromptEmbeddings:
        """Run the encoders on n prompts, each with its own pseudo-word.

        Args:
            vectors: float32 (n, m, sum of widths), the pseudo-word of each prompt; None if no prompt holds
                one. Gradients flow to them alone, as all weights are frozen.
        """
        with ExitStack() as stack:
            if vectors is not None:
                for table, own in zip(self.tables, vectors.split(self.widths, dim=-1), strict=True):
                    stack.enter_context(_pseudo_tokens(table, prompts.slots, own))
            if len(self.encoders) == 1:
                return PromptEmbeddings(self.encoders[0](prompts.ids[:, 0])[0])
            outputs = [
                encoder(prompts.ids[:, k], output_hidden_states=True)
                for k, encoder in enumerate(self.encoders)
            ]
        # SDXL was trained on the penultimate hidden states of both encoders, side by side, and on the pooled
        # projection of the second.
        states = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return PromptEmbeddings(states, outputs[-1][0])

    def split_by_encoder(self, name: str, vectors: Tensor) -> dict[str, Tensor]:
        """A pseudo-word (m, sum of widths) as it is stored: the first encoder's part under its name, the
        second's under "<name>.text_encoder_2", each as diffusers' ``load_textual_inversion`` reads it."""
        names = (name, name + SECOND_ENCODER)
        return {n: v.contiguous() for n, v in zip(names, vectors.split(self.widths, dim=-1), strict=False)}

    def word_vector(self, word: str, several: Literal["one", "mean"] = "one") -> Tensor:
        """The token embedding of an initial word, or the mean of several: float32 (sum of widths,).

        Raises:
            SettingsError: as :func:`word_tokens`.
        """
        rows = [
            table.weight[word_tokens(tokenizer, word, several)].detach().float().mean(0)
            for tokenizer, table in zip(self.tokenizers, self.tables, strict=True)
        ]
        return torch.cat(rows)


@contextmanager
def _pseudo_tokens(table: nn.Module, slots: Tensor, vectors: Tensor) -> Iterator[None]:
    """While open, the token table's output holds the learned vectors at the positions of pseudo-tokens.

    Args:
        slots: int64 (n, length), see :class:`Prompts`.
        vectors: (n, m, width of the table).
    """
    # gather needs valid indices at every position; those outside of slots are discarded by where.
    index = slots.clamp_min(0)[..., None].expand(-1, -1, vectors.shape[-1])
    is_pseudo = (slots >= 0)[..., None]

    def replace(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
        return torch.where(is_pseudo, vectors.gather(1, index).to(output.dtype), output)

    handle = table.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def word_tokens(tokenizer: Any, word: str, several: Literal["one", "mean"] = "one") -> list[int]:
    """Token ids of an initial word: one, or any number if ``several`` is "mean".

    Raises:
        SettingsError: the model has no token for the word, or several tokens and ``several`` is "one".
    """
    ids: list[int] = tokenizer(word, add_special_tokens=False)["input_ids"]
    what = f"initial word {quote_word(word)}"
    special = {*begin_and_end(tokenizer), tokenizer.unk_token_id}
    if not ids or special & set(ids):
        raise SettingsError(f"{what} has no token in this model; choose another word")
    if len(ids) > 1 and several == "one":
        raise SettingsError(
            f"{what} is {len(ids)} tokens of this model; choose another word, domain or model, or set "
            "inversion.initial_tokens to mean"
        )
    return ids


def quote_word(word: str) -> str:
    """A word quoted for a message: short and on one line, whatever it holds."""
    return ascii(word if len(word) <= 40 else f"{word[:40]}…")
