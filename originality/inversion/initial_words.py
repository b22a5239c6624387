"""Which of its domain's words an image's pseudo-tokens start from (paper Section 4.2, Table 1).

The image's own word in the list of images comes first; else a domain of one word has it, and of several
the one that CLIP finds most likely is taken.
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


class WordUnusable(ItemFault, ValueError):  # noqa: N818 - it says what the word is
    """An image's own word that the model cannot start from. It says nothing of other images."""


class ZeroShot(Protocol):
    """Says which of several texts belongs to an image."""

    def probabilities(self, images: np.ndarray, texts: list[str]) -> np.ndarray:
        """float64 (n, k) for uint8 (n, h, w, 3) and k texts; each row sums to 1."""

    def digest(self) -> str:
        """Short digest of the weights that decide."""


class InitialWords:
    """Finds the word of each image, on one model."""

    def __init__(
        self,
        settings: AuditSettings,
        model: ModelFolder,
        copies: Copies = Copies(),
        device: Any = "cpu",
    ) -> None:
        """Loads CLIP, if the domain has several words and there is one.

        Raises:
            SettingsError: a word of the domain is none that the model can start from, or CLIP cannot be used.
        """
        self._domain = settings.spoken
        self._several = settings.inversion.initial_tokens
        self._tokenizers = model.description.tokenizers
        for word in self._domain.initial_words:
            self._look_up(word)
        self._texts = [PROMPT.format(word) for word in self._domain.initial_words]
        self.chooser = load_chooser(settings, model, copies, device)
        if self.chooser is not None:
            try:
                self.chooser.probabilities(np.full((1, 64, 64, 3), 255, np.uint8), self._texts)
            except ValueError as error:
                raise SettingsError(f"domain {self._domain.name!r}: {error}; choose shorter words") from error

    def _look_up(self, word: str) -> None:
        for tokenizer in self._tokenizers:
            word_tokens(tokenizer, word, self._several)

    def of(self, own: str | None, picture: np.ndarray) -> str:
        """The word of an image.

        Args:
            own: its word in the list of images.
            picture: uint8 (side, side, 3), the image as the model sees it.

        Raises:
            WordUnusable: the model cannot start from its own word.
            WordMissing: nothing says which.
        """
        if own is not None:
            try:
                self._look_up(own)
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
    """CLIP: of the model's own towers, where its folder has both, else the detector's of the check; None
    where the domain has one word, or there is neither.

    Raises:
        SettingsError: it cannot be used.
    """
    if len(settings.spoken.initial_words) == 1:
        return None
    if text_tower(model.path) is not None:
        return load_model_clip(model.path, device)
    folder = _detector_folder(settings, copies)
    return None if folder is None else load_clip(folder, device)


def words_missing(settings: AuditSettings, model: ModelFolder, copies: Copies = Copies()) -> str | None:
    """What to say of a collection without words of its own, in one line with the fix; None where each image
    finds its word."""
    domain = settings.spoken
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
    """That something else is looked for than usual, in one line; None where it is as usual, or differs from
    image to image."""
    domain = settings.spoken
    if settings.in_distribution.check != "editability" or len(domain.initial_words) > 1:
        return None
    word = domain.initial_words[0]
    if (subject := domain.subject_for(word)) == domain.edit_subject:
        return None
    return (
        f"domain {domain.name!r} starts from {word!r}, of which {domain.edit_subject!r} in a scene would "
        f"test nothing: {subject!r} is looked for in its place"
    )


def _detector_folder(settings: AuditSettings, copies: Copies) -> Path | None:
    """Where the CLIP of the check lies."""
    how = settings.in_distribution
    if how.detector != "clip" or not (copies.detector or how.folder):
        return None
    return copies.detector or Path(str(how.folder))
