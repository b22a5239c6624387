"""Initial word of an image: the word that its pseudo-tokens start from (paper Section 4.2, Table 1).

The image's own word, from the list of images, comes first. Otherwise it is the domain's word, and of several
the one that CLIP finds most likely for the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from originality.contract.config import SettingsError
from originality.contract.faults import ItemFault
from originality.model.model_folder import ModelFolder
from originality.model.prompt_embeddings import word_tokens
from originality.settings.audit import AuditSettings
from originality.settings.local_weights import Copies
from originality.vision.clip import PROMPT, load_clip
from originality.vision.clip_towers import load_model_clip, text_tower


class WordUnusable(ItemFault, ValueError):  # noqa: N818 - recorded as error_class
    """The model cannot start from an image's own word; other images are not affected."""


class ZeroShot(Protocol):
    """Classifier of images by texts, such as CLIP."""

    def probabilities(self, images: np.ndarray, texts: list[str]) -> np.ndarray:
        """Probability of each text for each image.

        Args:
            images: uint8 (n, h, w, 3).
            texts: k texts.

        Returns:
            float64 (n, k); each row sums to 1.
        """

    def digest(self) -> str:
        """Short digest of the weights."""


class InitialWords:
    """Finds the initial word of each image, for one model."""

    def __init__(
        self,
        settings: AuditSettings,
        model: ModelFolder,
        copies: Copies = Copies(),
        device: Any = "cpu",
    ) -> None:
        """Check the domain's words, and load CLIP if there are several words and a CLIP is available.

        Raises:
            SettingsError: the model cannot start from a word of the domain, or CLIP cannot be used.
        """
        self._domain = settings.selected_domain
        self._several = settings.inversion.initial_tokens
        self._tokenizers = model.description.tokenizers
        for word in self._domain.initial_words:
            self._check(word)
        self._texts = [PROMPT.format(word) for word in self._domain.initial_words]
        self.chooser = load_chooser(settings, model, copies, device)
        if self.chooser is not None:
            try:
                self.chooser.probabilities(np.full((1, 64, 64, 3), 255, np.uint8), self._texts)
            except ValueError as error:
                raise SettingsError(f"domain {self._domain.name!r}: {error}; choose shorter words") from error

    def _check(self, word: str) -> None:
        """Raise SettingsError if the model cannot start from a word."""
        for tokenizer in self._tokenizers:
            word_tokens(tokenizer, word, self._several)

    def of(self, own: str | None, picture: np.ndarray) -> str:
        """The initial word of an image.

        Args:
            own: the image's own word, from the list of images; None if it has none.
            picture: uint8 (side, side, 3), the image as the model sees it.

        Raises:
            WordUnusable: the model cannot start from the image's own word.
            WordMissing: the domain has several words, and there is no CLIP to choose one.
        """
        if own is not None:
            try:
                self._check(own)
            except SettingsError as error:
                raise WordUnusable(f"{error} in the list's column 'word'") from error
            return own
        if self.chooser is None:
            return self._domain.initial_word
        likely = self.chooser.probabilities(picture[None], self._texts)[0]
        return self._domain.initial_words[int(np.argmax(likely))]


def load_chooser(
    settings: AuditSettings,
    model: ModelFolder,
    copies: Copies = Copies(),
    device: str | torch.device = "cpu",
) -> ZeroShot | None:
    """The CLIP that chooses words; None if the domain has one word, or no CLIP is available.

    Made of the model's own towers if its folder has both, otherwise the CLIP of the in-distribution check.

    Raises:
        SettingsError: the CLIP cannot be used.
    """
    if len(settings.selected_domain.initial_words) == 1:
        return None
    if text_tower(model.path) is not None:
        return load_model_clip(model.path, device)
    folder = _detector_folder(settings, copies)
    return None if folder is None else load_clip(folder, device)


def words_missing(settings: AuditSettings, model: ModelFolder, copies: Copies = Copies()) -> str | None:
    """One line, with the fix, on images that would find no initial word; None if every image finds one.

    It holds for images without a word of their own.
    """
    domain = settings.selected_domain
    if len(domain.initial_words) == 1 or _detector_folder(settings, copies) is not None:
        return None
    if text_tower(model.path) is not None:
        return None
    word = domain.initial_words[0]
    return (
        f"domain {domain.name!r} has several words ({', '.join(domain.initial_words)}): give a list with a "
        "column 'word', or a CLIP that chooses (in_distribution.detector clip), or take one word for all "
        f"images (--domain mine --set domains.mine.initial_word={word!r})"
    )


def subject_switched(settings: AuditSettings) -> str | None:
    """One line that says so if edit images are searched for a subject other than the usual one.

    None if it is the usual one, or differs from image to image.
    """
    domain = settings.selected_domain
    if settings.in_distribution.check != "editability" or len(domain.initial_words) > 1:
        return None
    word = domain.initial_words[0]
    if (subject := domain.subject_for(word)) == domain.edit_subject:
        return None
    return (
        f"domain {domain.name!r} starts from {word!r}, of which {domain.edit_subject!r} in a scene would "
        f"test nothing: {subject!r} is used instead"
    )


def _detector_folder(settings: AuditSettings, copies: Copies) -> Path | None:
    """Folder of the in-distribution check's CLIP; None if the check uses none."""
    how = settings.in_distribution
    if how.detector != "clip" or not (copies.detector or how.folder):
        return None
    return copies.detector or Path(str(how.folder))
