"""A verdict with what came of the image: its redraws and learned words, shown in a notebook."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from originality.evaluation import verdict as rows
from originality.evaluation.redraw_sheet import COLUMNS, RedrawSheet
from originality.evaluation.verdict import Attempt
from originality.model import embedding_files

_SHOWN_REDRAWS = 4
"""Redraws of each number of tokens in a notebook."""


class Word:
    """A learned pseudo-word of m tokens."""

    def __init__(self, word: embedding_files.Word) -> None:
        self._word = word

    @property
    def vectors(self) -> np.ndarray:
        """float32 (m, width): the token embeddings, for the (first) text encoder."""
        return self._word.vectors

    @property
    def second(self) -> np.ndarray | None:
        """float32 (m, width) for SDXL's second text encoder; None in other models."""
        return self._word.second

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file that AUTOMATIC1111, ComfyUI and diffusers read."""
        Path(path).write_bytes(self._word.file())

    def load_into(self, pipeline: Any, token: str) -> None:
        """Add the word to a diffusers pipeline: prompts may then hold ``token``."""
        import torch

        if self.second is None:
            pipeline.load_textual_inversion({token: torch.from_numpy(self.vectors.copy())}, token=token)
            return
        for vectors, tokenizer, encoder in (
            (self.vectors, pipeline.tokenizer, pipeline.text_encoder),
            (self.second, pipeline.tokenizer_2, pipeline.text_encoder_2),
        ):
            state = {token: torch.from_numpy(vectors.copy())}
            pipeline.load_textual_inversion(state, token=token, tokenizer=tokenizer, text_encoder=encoder)

    def __repr__(self) -> str:
        plural = "s" if len(self.vectors) != 1 else ""
        return f"Word of {len(self.vectors)} token{plural} of width {self.vectors.shape[1]}"


class Verdict:
    """What was found of one image."""

    def __init__(self, row: Mapping[str, Any], read: Callable[[str], bytes | None]) -> None:
        """
        Args:
            row: the verdict's row.
            read: the bytes of one of its artefacts by name, or None where there is none.
        """
        known = {name: value for name, value in row.items() if name in rows.Verdict.model_fields}
        self._row = rows.Verdict.model_validate(known)
        self._read = read

    @property
    def image_id(self) -> str:
        """SHA-256 of the image file's bytes, in hex; of an image from memory, of its pixels."""
        return self._row.image_id

    @property
    def status(self) -> str:
        """ "judged", "rejected" (no usable image) or "failed"."""
        return self._row.status

    @property
    def min_tokens(self) -> int | None:
        """Smallest number of tokens that passed; None if none did, or if the image was not judged."""
        return self._row.min_tokens

    @property
    def censored(self) -> bool:
        """Whether no number of tokens up to ``max_tokens`` passed: original beyond what was tried ("+")."""
        return self._row.censored

    @property
    def score(self) -> float | None:
        """Expected number of tokens if the same words were redrawn afresh, "never" counted as ``max_tokens``
        + 1: finer than ``min_tokens``. None if the image was not judged, or by an older version."""
        return self._row.score

    @property
    def score_interval(self) -> tuple[float, float] | None:
        """95 % interval of the score, over what the redraws leave open."""
        low, high = self._row.score_low, self._row.score_high
        return None if low is None or high is None else (low, high)

    @property
    def confidence(self) -> float | None:
        """Probability, 0 to 1, that fresh redraws of the same words give the same ``min_tokens``, or "never"
        again. A different seed also learns different words, and agrees less often."""
        return self._row.confidence

    @property
    def redrawn_at(self) -> int | None:
        """Smallest number of tokens whose redraws were close enough, whatever the in-distribution check said;
        None if none were."""
        return self._row.redrawn_at

    @property
    def in_distribution_at(self) -> int | None:
        """Smallest number of tokens whose in-distribution check passed, whatever the distance; None if none
        did, or nothing was checked."""
        return self._row.in_distribution_at

    @property
    def reference_distance(self) -> float | None:
        """Mean distance of the image to draws from the plain prompt: a second definition of originality
        (arXiv 2406.03341). None if it was not measured."""
        return self._row.reference_distance

    @property
    def max_tokens(self) -> int | None:
        """Most tokens that were tried."""
        return self._row.max_tokens

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What was found of m = 1, 2, ... tokens, in this order."""
        return self._row.sweep

    @property
    def error(self) -> str | None:
        """Why the image was not judged: a stable code or class, and a message. None if it was."""
        if self._row.error_class is None:
            return None
        return f"{self._row.error_class}: {self._row.error_message}"

    def row(self) -> dict[str, Any]:
        """The verdict as plain JSON values, with the columns of ``verdicts/*.parquet``."""
        return self._row.row()

    @cached_property
    def query(self) -> Image.Image | None:
        """The image as the model saw it: a square of the model's size. None if it was not judged."""
        return self._picture("query.webp")

    def redraws(self, tokens: int) -> list[Image.Image]:
        """The first redraws from the word of so many tokens: at most 8, of at most 192 pixels.

        Raises:
            ValueError: so many tokens were not tried.
        """
        tried = [attempt.tokens for attempt in self.attempts]
        if tokens not in tried:
            raise ValueError(f"{tokens} tokens were not tried; tried: {tried}")
        if self._sheet is None:
            return []
        place = tried.index(tokens)
        count = min(COLUMNS, self.attempts[place].redraws)
        return [self._sheet.tile(place, column) for column in range(count)]

    @cached_property
    def words(self) -> dict[int, Word]:
        """The learned pseudo-words by their number of tokens; empty if the image was not judged."""
        data = self._read("tokens.safetensors")
        return {} if data is None else {m: Word(word) for m, word in embedding_files.words_of(data).items()}

    @cached_property
    def _sheet(self) -> RedrawSheet | None:
        page = self._picture("redraws.webp")
        return None if page is None else RedrawSheet(page)

    def _picture(self, name: str) -> Image.Image | None:
        data = self._read(name)
        return None if data is None else Image.open(io.BytesIO(data)).convert("RGB")

    @property
    def _finding(self) -> str:
        if self.status != "judged":
            return f"{self.status} ({self.error})"
        if self.censored:
            return f"original: not redrawn with up to {self.max_tokens} tokens"
        return f"redrawn with {self.min_tokens} token{'s' if self.min_tokens != 1 else ''}"

    def __repr__(self) -> str:
        return f"<Verdict {self.image_id[:12]}: {self._finding}>"

    def _repr_html_(self) -> str:
        """The image, and for each number of tokens a bar of the mean distance and the first redraws."""
        parts = [f"<p><b>{html.escape(self._finding)}</b> <code>{self.image_id[:12]}</code></p>"]
        if self.query is not None:
            parts.append(f"<p>{_img(self.query)}</p>")
        lines = []
        for attempt in self.attempts:
            distance = attempt.distance_mean
            width = 0 if distance is None else round(100 * min(distance, 1.0))
            colour = "#0072b2" if attempt.passed else "#d55e00"
            bar = f'<div style="background:{colour};height:12px;width:{width}px"></div>'
            said = "not measured" if distance is None else f"{distance:.3f}"
            passed = "passed" if attempt.passed else attempt.failure or "did not pass"
            strip = "".join(_img(redraw) for redraw in self.redraws(attempt.tokens)[:_SHOWN_REDRAWS])
            cells = (f"m = {attempt.tokens}", bar, said, html.escape(passed), strip)
            lines.append(
                "<tr>" + "".join(f'<td style="white-space:nowrap">{cell}</td>' for cell in cells) + "</tr>"
            )
        if lines:
            names = ("tokens", "", "mean distance", "", "redraws")
            head = "<tr>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"
            parts.append(f"<table>{head}{''.join(lines)}</table>")
        return "".join(parts)


def _img(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    style = "display:inline;height:96px;margin:1px;border:1px solid #ccc"
    return f'<img alt="" style="{style}" src="data:image/png;base64,{data}">'
