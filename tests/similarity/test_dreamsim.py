"""Our DreamSim against the dreamsim package, on stand-in weights that both load offline."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dreamsim_standin import FULL, NORM, package_distances, package_undone, save_adapter, save_clip

from originality.settings import DistanceSettings, SettingsError
from originality.similarity import Distance, dreamsim_weights, load_distance
from originality.similarity.dreamsim import DreamSim, hub_folder_restored, prepare
from originality.similarity.dreamsim_weights import BRANCHES, Branch, fetch, files_of


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


@pytest.mark.parametrize("branch", ["dino_vitb16", "clip_vitb32"])
def test_half_precision(branch: Branch, tiny_folder: Path, pictures: np.ndarray) -> None:
    exact, half = (DreamSim(tiny_folder, branch, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    a, b = exact.embed(pictures), half.embed(pictures)
    assert b[0].dtype == np.float64
    np.testing.assert_allclose(half.between(b[0], b), exact.between(a[0], a), atol=0.02)


def test_loading_leaves_no_trace(tiny_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from dreamsim.feature_extraction.extractor import ViTExtractor

    create_model = ViTExtractor.__dict__["create_model"]
    before = (
        torch.hub._hub_dir,
        torch.random.get_rng_state().tolist(),
        list(sys.path),
        sorted(p.name for p in tiny_folder.rglob("*")),
        list(warnings.filters),
    )
    DreamSim(tiny_folder, "ensemble")
    after = (
        torch.hub._hub_dir,
        torch.random.get_rng_state().tolist(),
        list(sys.path),
        sorted(p.name for p in tiny_folder.rglob("*")),
        list(warnings.filters),
    )
    assert before == after
    assert ViTExtractor.__dict__["create_model"] is create_model
    assert capfd.readouterr() == ("", "")


def test_no_code_of_the_folder_runs(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    shutil.copytree(tiny_folder, folder)
    (folder / "facebookresearch_dino_main" / "hubconf.py").write_text("raise SystemExit(1)")
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
    with pytest.raises(SettingsError, match=r"does not exist: set distance\.folder") as raised:
        load_distance(settings)
    assert "\n" not in str(raised.value)
    folder = tmp_path / "partial"
    shutil.copytree(tiny_folder, folder)
    (folder / "clip_vitb16_pretrain.pth.tar").unlink()
    (folder / "ensemble_lora" / "adapter_model.safetensors").unlink()
    with pytest.raises(SettingsError, match=r"lacks clip_vitb16.*adapter_model.*connected"):
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
    with pytest.raises(SettingsError, match="cannot be loaded as clip_vitb32") as raised:
        DreamSim(folder, "clip_vitb32")
    assert "\n" not in str(raised.value)


def test_unknown_branch() -> None:
    with pytest.raises(SettingsError, match="no branch 'vgg'"):
        DreamSim(branch="vgg")  # type: ignore[arg-type]


def archive_of(folder: Path, branch: Branch, to: Path) -> str:
    """The branch's files as its authors publish them, and one that has no business there."""
    with zipfile.ZipFile(to, "w") as archive:
        for path in files_of(folder, branch):
            if path.parent.name != "checkpoints":
                archive.write(path, path.relative_to(folder))
        archive.writestr("../escaped", "x")
    return to.as_uri()


@pytest.fixture
def published(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The authors' servers, as files; the default folder is tmp_path/hub/dreamsim."""
    from dreamsim.config import dreamsim_weights as urls

    archive = tmp_path / "ensemble.zip"
    monkeypatch.setitem(urls, "ensemble", archive_of(tiny_folder, "ensemble", archive))
    dino = tiny_folder / dreamsim_weights.DINO
    monkeypatch.setattr(dreamsim_weights, "DINO_URL", dino.as_uri())
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return archive


def test_download_then_offline(
    published: Path, tmp_path: Path, pictures: np.ndarray, tiny_folder: Path
) -> None:
    downloaded = load_distance(DistanceSettings(metric="dreamsim"))
    folder = tmp_path / "hub" / "dreamsim"
    published.unlink()  # from here on any further download would fail
    copied = load_distance(DistanceSettings(metric="dreamsim", folder=str(folder)))
    fetch(folder)
    assert downloaded.digest() == copied.digest() == DreamSim(tiny_folder).digest()
    assert np.array_equal(downloaded.embed(pictures)[0], copied.embed(pictures)[0])
    files = {p for p in folder.rglob("*") if p.is_file()}
    assert files == set(files_of(folder, "ensemble")), "nothing but the weights is left behind"
    assert not (tmp_path / "hub" / "escaped").exists()


def test_download_breaks_off(published: Path, tmp_path: Path) -> None:
    published.write_bytes(published.read_bytes()[:5000])
    folder = tmp_path / "new"
    with pytest.raises(SettingsError, match=r"could not be downloaded.*distance\.folder"):
        fetch(folder)
    assert list(folder.iterdir()) == []


def test_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(SettingsError, match=r"no network in tests.*connect this machine once") as e:
        load_distance(DistanceSettings(metric="dreamsim"))
    assert "\n" not in str(e.value)
