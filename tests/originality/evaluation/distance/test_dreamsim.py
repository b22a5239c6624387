"""Our DreamSim against the dreamsim package, on stand-in weights that both load offline."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from originality.contract.config import Precision, SettingsError
from originality.contract.download import PATIENCE, FetchError
from originality.evaluation.distance import Distance, load_distance
from originality.evaluation.distance.dreamsim import DreamSim, hub_folder_restored, prepare
from originality.evaluation.distance.dreamsim_weights import BRANCHES, DINO, Branch
from originality.settings.parts import DistanceSettings
from tests.support.dreamsim_standin import (
    FULL,
    NORM,
    package_distances,
    package_undone,
    save_adapter,
    save_clip,
)

# Private: torch.hub._hub_dir, because get_dir() does not distinguish a folder that was set from the default.


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the network fails."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.mark.parametrize("branch", BRANCHES)
def test_equals_the_package(branch: Branch, tiny_folder: Path, pictures: np.ndarray) -> None:
    ours = DreamSim(tiny_folder, branch)
    embedded = ours.embed(pictures)
    theirs = package_distances(tiny_folder, branch, pictures)
    assert theirs[1:].min() > 1e-3, "the stand-in must tell images apart"
    np.testing.assert_allclose(ours.between(embedded[0], embedded), theirs, atol=2e-6)


@pytest.mark.skipif("FULL_SIZE" not in os.environ, reason="FULL_SIZE=1 runs real architectures (20 s, 1 GB)")
def test_full_size_branch_equals_the_package(tmp_path: Path, pictures: np.ndarray) -> None:
    from dreamsim.feature_extraction import load_clip_as_dino, vision_transformer
    from dreamsim.model import EMBED_DIMS

    def vit_base(patch_size: int = 16, **kwargs: Any) -> Any:
        return vision_transformer.VisionTransformer(
            patch_size=patch_size, qkv_bias=True, norm_layer=NORM, **FULL, **kwargs
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load_clip_as_dino, "vit_base", vit_base)
        patch.setitem(EMBED_DIMS["clip_vitb32"], "embedding", 512)
        save_clip(tmp_path / "clip_vitb32_pretrain.pth.tar", vit_base(32), 512, 3)
        with package_undone():
            save_adapter(tmp_path, "clip_vitb32")
        ours = DreamSim(tmp_path, "clip_vitb32")
        embedded = ours.embed(pictures[:2])
        assert embedded[0].shape == (512,)
        theirs = package_distances(tmp_path, "clip_vitb32", pictures[:2])
    np.testing.assert_allclose(ours.between(embedded[0], embedded), theirs, atol=1e-5)
    assert theirs[1] > 1e-3
    shutil.rmtree(tmp_path)


def test_preprocessing_is_the_package_s(tiny_folder: Path) -> None:
    from dreamsim.config import dreamsim_args
    from PIL import Image
    from torchvision import transforms

    image = np.random.default_rng(0).integers(0, 256, (300, 517, 3), dtype=np.uint8)
    side = dreamsim_args["img_size"]
    bicubic = transforms.InterpolationMode.BICUBIC
    theirs = transforms.Compose(
        [transforms.Resize((side, side), interpolation=bicubic), transforms.ToTensor()]
    )
    assert torch.equal(prepare(image), theirs(Image.fromarray(image)))


def test_metric(tiny_folder: Path, pictures: np.ndarray) -> None:
    metric = DreamSim(tiny_folder)
    assert isinstance(metric, Distance) and metric.name == "dreamsim"
    embedded = metric.embed(pictures)
    assert metric.between(embedded[0], embedded[:1])[0] == pytest.approx(0, abs=1e-12)
    assert metric.between(embedded[0], []).shape == (0,)
    assert list(metric.embed(pictures[:0])) == []
    forth, back = metric.between(embedded[0], embedded[1:2]), metric.between(embedded[1], embedded)
    assert forth[0] == pytest.approx(back[0])


@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_embedding_does_not_depend_on_its_neighbours(
    batch_size: int, tiny_folder: Path, pictures: np.ndarray
) -> None:
    metric = DreamSim(tiny_folder, "clip_vitb32", batch_size=batch_size)
    together = metric.embed(pictures)
    for image, embedding in zip(pictures, together, strict=True):
        assert np.array_equal(metric.embed(image[None])[0], embedding)


TOLERANCE: dict[Precision, float] = {"bf16": 0.02, "fp16": 0.002}
"""How far a distance in half precision may be from fp32's, on a scale where 0.45 is the threshold."""


@pytest.mark.parametrize(
    ("branch", "dtype"), [("ensemble", "bf16"), ("clip_vitb32", "bf16"), ("clip_vitb32", "fp16")]
)
def test_half_precision(branch: Branch, dtype: Precision, tiny_folder: Path, pictures: np.ndarray) -> None:
    given = {"folder": str(tiny_folder), "branch": branch, "threshold": 0.4}
    exact, half = (load_distance(DistanceSettings(**given, dtype=d)) for d in ("fp32", dtype))  # type: ignore
    a, b = exact.embed(pictures), half.embed(pictures)
    assert b[0].dtype == np.float64
    expected, found = exact.between(a[0], a), half.between(b[0], b)
    assert not np.array_equal(found[1:], expected[1:])
    np.testing.assert_allclose(found, expected, atol=TOLERANCE[dtype])
    for batch_size in (1, 3):
        metric = DreamSim(tiny_folder, branch, dtype=dtype, batch_size=batch_size)
        together = metric.embed(pictures)
        for image, embedding in zip(pictures, together, strict=True):
            assert np.array_equal(metric.embed(image[None])[0], embedding)


def traces(folder: Path) -> tuple[object, ...]:
    """What loading could leave behind in the process and the folder."""
    from dreamsim.feature_extraction.extractor import ViTExtractor

    return (
        torch.hub._hub_dir,
        torch.random.get_rng_state().tolist(),
        list(sys.path),
        sorted((p.name, p.stat().st_mtime_ns) for p in folder.rglob("*")),
        list(warnings.filters),
        ViTExtractor.__dict__["create_model"],
        torch.get_default_dtype(),
    )


def test_loading_leaves_no_trace(tiny_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = traces(tiny_folder)
    DreamSim(tiny_folder, "ensemble")
    assert traces(tiny_folder) == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "torn", ["open_clip_vitb16_pretrain.pth.tar", "ensemble_lora/adapter_model.safetensors"]
)
def test_a_load_that_fails_leaves_no_trace(
    torn: str, tiny_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "torn"
    shutil.copytree(tiny_folder, folder)
    (folder / torn).write_bytes((folder / torn).read_bytes()[:-2000])
    before = traces(folder)
    with pytest.raises(SettingsError, match="ensemble"):
        DreamSim(folder)
    assert traces(folder) == before
    assert capfd.readouterr() == ("", "")


class Payload:
    """A pickle that does something when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


HOSTILE: list[tuple[Branch, str]] = [
    ("dino_vitb16", DINO),
    *((b, f"{b}_pretrain.pth.tar") for b in ("clip_vitb32", "open_clip_vitb32")),
    *(("ensemble", f"{n}clip_vitb16_pretrain.pth.tar") for n in ("", "open_")),
    ("clip_vitb32", "clip_vitb32_single_lora/adapter_model.bin"),
]


@pytest.mark.parametrize(("branch", "name"), HOSTILE)
def test_no_pickle_runs(branch: Branch, name: str, tiny_folder: Path, tmp_path: Path) -> None:
    folder, mark = tmp_path / "hostile", tmp_path / "it ran"
    shutil.copytree(tiny_folder, folder)
    torch.save({"state_dict": Payload(mark)}, folder / name)
    if name.endswith(".bin"):
        (folder / name).with_suffix(".safetensors").unlink()
    with pytest.raises(SettingsError, match=branch):
        DreamSim(folder, branch)
    assert not mark.exists()
    torch.load(folder / name, weights_only=False)
    assert mark.exists(), "the payload is one"


def test_no_code_of_the_folder_runs(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    shutil.copytree(tiny_folder, folder)
    for file in (folder / "facebookresearch_dino_main").iterdir():
        file.write_text("raise SystemExit(1)")
    DreamSim(folder, "dino_vitb16")


def test_hub_folder_is_restored_after_an_error(tmp_path: Path) -> None:
    before = torch.hub._hub_dir
    with pytest.raises(RuntimeError), hub_folder_restored():
        torch.hub.set_dir(tmp_path)
        raise RuntimeError
    assert torch.hub._hub_dir == before


def test_threads_may_load_at_once(tiny_folder: Path, pictures: np.ndarray) -> None:
    found: dict[int, np.ndarray] = {}

    def load(k: int) -> None:
        found[k] = DreamSim(tiny_folder, "dino_vitb16").embed(pictures[:1])[0]

    threads = [threading.Thread(target=load, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[0], found[k]) for k in range(3))


def test_digest_is_of_the_weights(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_folder, folder)
    original = DreamSim(tiny_folder, "clip_vitb32").digest()
    assert DreamSim(folder, "clip_vitb32").digest() == original
    assert DreamSim(folder, "open_clip_vitb32").digest() != original
    path = folder / "clip_vitb32_pretrain.pth.tar"
    state = torch.load(path, weights_only=True)
    state["state_dict"]["proj"][0, 0] += 1
    torch.save(state, path)
    assert DreamSim(folder, "clip_vitb32").digest() != original


def test_missing_folder_and_files(tiny_folder: Path, tmp_path: Path) -> None:
    settings = DistanceSettings(metric="dreamsim", folder=str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"distance\.folder") as raised:
        load_distance(settings)
    assert "\n" not in str(raised.value)
    folder = tmp_path / "partial"
    shutil.copytree(tiny_folder, folder)
    (folder / "clip_vitb16_pretrain.pth.tar").unlink()
    (folder / "ensemble_lora" / "adapter_model.safetensors").unlink()
    with pytest.raises(SettingsError, match=r"clip_vitb16.*adapter_model"):
        DreamSim(folder)


@pytest.mark.parametrize("broken", ["torn", "empty", "foreign", "adapter", "other adapter", "json"])
def test_broken_files(broken: str, tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_folder, folder)
    weights, lora = folder / "clip_vitb32_pretrain.pth.tar", folder / "clip_vitb32_single_lora"
    adapter = lora / "adapter_model.safetensors"
    if broken == "torn":
        weights.write_bytes(weights.read_bytes()[:10_000])
    elif broken == "empty":
        weights.write_bytes(b"")
    elif broken == "foreign":
        torch.save({"weights": 1}, weights)
    elif broken == "adapter":
        adapter.write_bytes(adapter.read_bytes()[:1000])
    elif broken == "other adapter":
        # The package would only warn, and measure with networks that nobody tuned.
        from safetensors.torch import save_file

        save_file({"base_model.model.other.lora_A.weight": torch.zeros(2, 2)}, adapter)
    else:
        (lora / "adapter_config.json").write_text("{")
    with pytest.raises(SettingsError, match="clip_vitb32") as raised:
        DreamSim(folder, "clip_vitb32")
    assert "\n" not in str(raised.value)


def test_unknown_branch() -> None:
    with pytest.raises(SettingsError, match="no branch 'vgg'"):
        DreamSim(branch="vgg")  # type: ignore[arg-type]


def test_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORIGINALITY_CACHE", str(tmp_path))
    monkeypatch.setenv(PATIENCE, "0")
    with pytest.raises(FetchError, match="no network in tests") as e:
        load_distance(DistanceSettings(metric="dreamsim"))
    assert "\n" not in str(e.value)
