"""The reference distance: how far an image is from what the plain prompt gives.

A second definition of originality, beside min tokens: the expected distance between an image and draws from
the generic prompt (arXiv 2406.03341). The draws are made once for each initial word and shared by all images,
so an image costs no more than comparing its embedding with theirs.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from originality.evaluation.judge import Judge
from originality.model.diffusion import LatentDiffusion, NotFinite

_log = logging.getLogger(__name__)

_KEY = "reference"
"""In place of an image_id: the noise is the same for all images, and for every worker of a run."""


class References:
    """Draws from the plain prompt, by initial word."""

    def __init__(self, model: LatentDiffusion, judge: Judge) -> None:
        self._model, self._judge = model, judge
        self._embedded: dict[str, list[Any] | None] = {}
        self._unet_samples = 0

    def distance(self, query: object, word: str) -> float | None:
        """Mean distance of an image to the draws from the redraw prompt with its initial word.

        Args:
            query: the image's embedding by the metric.

        Returns:
            None if the settings ask for none, or a draw or a distance is not finite.
        """
        if not self._judge.settings.redraw.reference:
            return None
        if word not in self._embedded:
            self._embedded[word] = self._draw(word)
        drawn = self._embedded[word]
        if drawn is None:
            return None
        mean = float(np.mean(self._judge.distance.between(query, drawn)))
        return mean if np.isfinite(mean) else None

    def spent(self) -> int:
        """Samples through the UNet since the last call."""
        spent, self._unet_samples = self._unet_samples, 0
        return spent

    def _draw(self, word: str) -> list[Any] | None:
        redraw = self._judge.settings.redraw
        prompt = redraw.prompt.replace("{}", word)
        noise = self._judge.noise(_KEY, 0, prompt, range(redraw.count))
        prompts = self._model.encode_prompts([prompt]).repeat_prompt(redraw.count)
        self._unet_samples += redraw.count * self._model.unet_samples_per_redraw(redraw)
        try:
            return self._judge.embed(self._model.generate(prompts, noise, redraw).checked())
        except NotFinite as error:
            _log.warning("no reference distances for the word %r: %s", word, error)
            return None
