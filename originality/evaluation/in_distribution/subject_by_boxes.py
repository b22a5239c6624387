"""The edit subject by an object detector's boxes, as in GenEval (arXiv 2310.11513)."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from originality.contract.config import SettingsError, nearest
from originality.model.library_errors import library_errors
from originality.model.transformers_folder import checked_folder, digest_of, load_network, load_processor
from originality.vision.batches import batch_size_for, in_batches

VERSION = 1
"""Increased with every change that alters a score."""


class SubjectByBoxes:
    """The score of the best box with the subject's label; 0 if there is none.

    Any object detector of transformers can be used (DETR, Conditional DETR, RT-DETR, YOLOS, ...), from a
    folder with its image processor; on the hub, for example, facebook/detr-resnet-50 (Apache-2.0, COCO's
    labels) at 1d5f47bd3bdd2c4bbfa585418ffe6da5028b4c0b. The model's own ``post_process_object_detection``
    decides what is a box and which label it has.
    """

    def __init__(
        self, subject: str, folder: Path, device: str | torch.device = "cpu", batch_size: int | None = None
    ) -> None:
        """Load the weights; they run in fp32.

        Args:
            subject: one of the model's labels, in upper or lower case.
            batch_size: images per pass; None for a size that suits the device.

        Raises:
            SettingsError: the folder is not an object detector's, files are missing or damaged, it has no
                such label, or it cannot read an image.
        """
        from transformers import AutoImageProcessor, AutoModelForObjectDetection
        from transformers.models.auto.modeling_auto import MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES

        kinds = MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES
        self._folder = checked_folder(folder, kinds, "an object detector (detr, rt_detr, yolos, ...)")
        self._device = torch.device(device)
        self._batch_size = batch_size or batch_size_for(self._device)
        self._processor = load_processor(AutoImageProcessor, self._folder)
        self._network = load_network(AutoModelForObjectDetection, self._folder, self._device)
        self._label = self._number_of(subject)
        with library_errors(f"folder {self._folder}"):
            self._try()

    def _number_of(self, subject: str) -> int:
        labels = {str(name).lower(): int(n) for n, name in self._network.config.id2label.items()}
        if subject.lower() not in labels:
            raise SettingsError(
                f"the detector in {self._folder} has no label {subject!r}{nearest(subject.lower(), labels)}; "
                "set a different edit_subject for the domain, or a different in_distribution.detector"
            )
        return labels[subject.lower()]

    def _try(self) -> None:
        """Try one image, so that whatever would stop every image is found before the first one."""
        batch = self._prepare(np.full((64, 64, 3), 255, np.uint8))[None].to(self._device)
        with torch.inference_mode():
            if not self._network(pixel_values=batch).logits.isfinite().all():
                raise ValueError("its outputs are not finite")
        self.scores(np.full((1, 64, 64, 3), 255, np.uint8))

    def digest(self) -> str:
        """Short digest of weights, configuration, image processor and the code's version."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(f"boxes {VERSION} {digest_of(self._folder)}".encode()).hexdigest()[:16]

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Score of the subject's best box: float64 (n,) in 0..1, for uint8 (n, h, w, 3)."""
        return in_batches(images, self._batch_size, 1, self._prepare, self._best)[:, 0]

    def _prepare(self, image: np.ndarray) -> torch.Tensor:
        prepared = self._processor(images=image, input_data_format="channels_last", return_tensors="pt")
        return torch.as_tensor(prepared["pixel_values"][0])

    def _best(self, batch: torch.Tensor) -> torch.Tensor:
        found = self._network(pixel_values=batch.to(self._device))
        images = self._processor.post_process_object_detection(found, threshold=0.0)
        best = [boxes["scores"][boxes["labels"] == self._label] for boxes in images]
        return torch.stack([scores.max() if len(scores) else scores.new_zeros(()) for scores in best])[
            :, None
        ]
