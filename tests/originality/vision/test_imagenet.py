"""EfficientNet-Lite0 with its real weights."""

from __future__ import annotations

import builtins
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from originality.contract.config import SettingsError
from originality.evaluation.distance import Distance, load_distance
from originality.settings.parts import DistanceSettings
from originality.vision.imagenet import CLASSES, ImageNetFeatures, prepare


@pytest.fixture(scope="module")
def metric() -> ImageNetFeatures:
    return ImageNetFeatures()


def distance(metric: ImageNetFeatures, a: np.ndarray, b: np.ndarray) -> float:
    query = metric.embed(a[None])[0]
    return float(metric.between(query, metric.embed(np.ascontiguousarray(b)[None]))[0])


def test_metric(metric: ImageNetFeatures, scenes: np.ndarray) -> None:
    assert isinstance(metric, Distance)
    embedded = metric.embed(scenes)
    assert len(embedded) == 4 and embedded[0].shape == (1280,)
    distances = metric.between(embedded[0], embedded)
    assert distances.dtype == np.float64 and distances[0] == pytest.approx(0, abs=1e-12)
    assert (distances[1:] > 0.01).all() and (distances <= 1).all()
    assert list(metric.embed(scenes[:0])) == []
    assert metric.classify(scenes[:0]).shape == (0, CLASSES)


def test_distortions_are_nearer_than_other_images(metric: ImageNetFeatures, scenes: np.ndarray) -> None:
    image = Image.fromarray(scenes[0]).resize((256, 256), Image.Resampling.LANCZOS)
    others = [np.asarray(Image.fromarray(s).resize((256, 256), Image.Resampling.LANCZOS)) for s in scenes[1:]]
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=60)
    distortions = [
        np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        np.asarray(Image.open(jpeg)),
        np.asarray(image.filter(ImageFilter.GaussianBlur(0.7))),
        np.asarray(image.point(lambda v: int(v * 0.95))),
    ]
    query = metric.embed(np.asarray(image)[None])[0]
    near = metric.between(query, metric.embed(np.stack(distortions)))
    far = metric.between(query, metric.embed(np.stack(others)))
    assert near.max() < far.min()


def test_neighbours_change_no_bit_of_a_feature(scenes: np.ndarray) -> None:
    metric = ImageNetFeatures(batch_size=3)
    together = metric.embed(scenes)
    for image, embedding in zip(scenes, together, strict=True):
        assert np.array_equal(metric.embed(image[None])[0], embedding)


def test_classify_is_the_network_s_own_forward(metric: ImageNetFeatures, scenes: np.ndarray) -> None:
    found = metric.classify(scenes[:2])
    assert found.shape == (2, CLASSES) and found.dtype == np.float64
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    with torch.inference_mode():
        logits = metric.network(torch.stack([prepare(s) for s in scenes[:2]]))
    np.testing.assert_allclose(found, logits.double().softmax(-1).numpy(), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("size", [(64, 64), (300, 451), (1000, 20), (224, 256)])
def test_preprocessing(size: tuple[int, int]) -> None:
    from torchvision import transforms

    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    ours = prepare(image)
    assert ours.shape == (3, 224, 224) and ours.dtype == torch.float32
    assert ours.min() >= -127 / 128 and ours.max() <= 1
    theirs = transforms.Compose(
        [
            transforms.Resize(256, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.PILToTensor(),
        ]
    )(Image.fromarray(image))
    assert torch.equal(ours, (theirs.float() - 127) / 128)


def test_loading_prints_nothing_and_keeps_the_generator(capfd: pytest.CaptureFixture[str]) -> None:
    before = torch.random.get_rng_state()
    ImageNetFeatures()
    assert torch.equal(before, torch.random.get_rng_state())
    assert capfd.readouterr() == ("", "")


def test_digest(metric: ImageNetFeatures, tmp_path: Path) -> None:
    other = ImageNetFeatures()
    assert other.digest() == metric.digest() and len(metric.digest()) == 16
    changed = ImageNetFeatures()
    changed.weights = tmp_path / "weights.pth"
    changed.weights.write_bytes(b"others")
    assert changed.digest() != metric.digest()


def test_a_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("efficientnet_lite0"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(SettingsError, match="pip install efficientnet-lite-pytorch"):
        load_distance(DistanceSettings(metric="imagenet", threshold=0.5))


def _jpeg(photo: Image.Image) -> Image.Image:
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=20)
    return Image.open(file)


def _noise(photo: Image.Image) -> Image.Image:
    grains = np.random.default_rng(0).normal(0, 20, (*photo.size[::-1], 3))
    return Image.fromarray((np.asarray(photo) + grains).clip(0, 255).astype(np.uint8))


DISTORTIONS: list[Callable[[Image.Image], Image.Image]] = [
    _jpeg,
    _noise,
    ImageOps.mirror,
    lambda photo: ImageOps.grayscale(photo).convert("RGB"),
    lambda photo: photo.filter(ImageFilter.GaussianBlur(2)),
    lambda photo: photo.crop((32, 32, 224, 224)),
    lambda photo: photo.resize((96, 96)).resize((256, 256)),
    lambda photo: photo.rotate(10, Image.Resampling.BICUBIC, fillcolor=(127, 127, 127)),
    lambda photo: ImageEnhance.Brightness(photo).enhance(1.4),
    lambda photo: ImageEnhance.Contrast(photo).enhance(0.6),
]


@pytest.mark.long
def test_ten_distortions_of_a_photograph_are_nearer_than_every_other(metric: ImageNetFeatures) -> None:
    data = (skimage.data.chelsea, skimage.data.coffee, skimage.data.rocket, skimage.data.astronaut)
    more = (skimage.data.retina, skimage.data.hubble_deep_field, skimage.data.immunohistochemistry)
    photos = [ImageOps.fit(Image.fromarray(photo()), (256, 256)) for photo in (*data, *more)]
    embedded = metric.embed(np.stack([np.asarray(photo) for photo in photos]))
    for k in range(len(data)):
        distorted = [np.asarray(distort(photos[k]))[None] for distort in DISTORTIONS]
        near = metric.between(embedded[k], [metric.embed(image)[0] for image in distorted])
        far = np.delete(metric.between(embedded[k], embedded), k)
        assert len(near) == 10 and near.max() < 0.5 < far.min()


def test_photographs(metric: ImageNetFeatures) -> None:
    """FACTS section 5: the cat is a cat; a flip is next to it, other photographs are far."""
    cat, *others = skimage.data.chelsea(), skimage.data.astronaut(), skimage.data.coffee()
    assert metric.classify(cat[None])[0, 281:286].sum() > 0.8  # the domestic cats
    assert distance(metric, cat, cat[:, ::-1]) < 0.03
    for other in others:
        assert distance(metric, cat, other) > 0.8
        assert metric.classify(other[None])[0, 281:286].sum() < 0.1
