"""DreamSim's own check of three pictures: what doctor says of its published distances."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image

from originality.contract.findings import Finding
from originality.doctor.judges import published_distances
from originality.evaluation.distance import dreamsim_published as published
from originality.evaluation.distance.dreamsim import DreamSim
from originality.settings.audit import AuditSettings
from originality.settings.local_weights import Copies
from originality.settings.presets import load_settings


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Pictures of different sizes and modes."""
    folder = tmp_path / "three"
    folder.mkdir()
    for k, (name, mode) in enumerate(zip(published.NAMES, ("RGB", "RGBA", "RGB"), strict=True)):
        noise = np.random.default_rng(k).integers(0, 256, (5, 4 + k, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((80 + 9 * k, 96), Image.Resampling.BICUBIC).convert(mode).save(
            folder / name
        )
    return folder


def settings(folder: Path | None, **distance: object) -> AuditSettings:
    of = {"metric": "dreamsim", "folder": folder and str(folder), **distance}
    return load_settings(
        "laptop", None, {"domain": "shapes", "distance": of, "in_distribution": {"check": "none"}}
    )


def look(of: AuditSettings, given: Path | None) -> Finding:
    return published_distances(of, torch.device("cpu"), Copies(), given)


def test_other_weights_fail_and_the_published_ones_pass(
    tiny_folder: Path, three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in's random weights are other ones; held against its own distances they are right."""
    requested = settings(tiny_folder)
    found = look(requested, three)
    assert found.state == "failed" and found.fix and "fetch both again" in found.fix
    assert "0.4453 (img_a_1.png)" in found.found and "0.2756 (img_b_1.png)" in found.found
    measured = found.numbers["measured"]
    own = DreamSim(tiny_folder)
    images = [np.asarray(Image.open(three / name).convert("RGB"))[None] for name in published.NAMES]
    reference, *others = (own.embed(image)[0] for image in images)
    assert list(measured.values()) == pytest.approx([float(own.between(reference, [o])[0]) for o in others])
    for beyond, state in (
        (0.0, "ok"),
        (0.0049, "ok"),
        (-0.0049, "ok"),
        (0.006, "failed"),
        (-0.006, "failed"),
    ):
        for name in measured:
            expected = {**measured, name: measured[name] + beyond}
            monkeypatch.setattr(published, "PUBLISHED", expected)
            assert look(requested, three).state == state, (name, beyond)


def test_a_distance_that_is_no_number_is_far_off() -> None:
    assert published.off({**published.PUBLISHED, "img_a_1.png": float("nan")}) == float("inf")
    assert published.off(published.PUBLISHED) == 0


def test_without_the_pictures_it_is_skipped_with_what_to_do(
    tiny_folder: Path, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (three / "img_b_1.png").unlink()
    for of, given in ((settings(tiny_folder), three), (settings(tiny_folder), None)):
        found = look(of, given)
        assert found.state == "skipped" and "lacks" in found.found and "img_b_1.png" in found.found
        assert "--dreamsim-pictures DIR" in found.found and "\n" not in found.found
    # Where the weights are downloaded, so are the pictures; nobody listens on this port.
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("ORIGINALITY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(published, "SOURCE", "http://127.0.0.1:9/images")
    found = look(settings(None), None)
    assert found.state == "skipped" and "cannot be fetched" in found.found and "127.0.0.1:9" in found.found
    for other in (settings(None, metric="elements"), settings(None, branch="dino_vitb16", threshold=0.5)):
        assert look(other, three).state == "skipped"


def test_pictures_are_fetched_once_and_completely(three: Path, tmp_path: Path) -> None:
    requested: list[str] = []

    class Host(SimpleHTTPRequestHandler):
        def log_message(self, *about: object) -> None:
            requested.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Host, directory=str(three))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        folder = tmp_path / "to" / "images"
        published.fetch(folder, address)
        published.fetch(folder, address)
        (folder / "img_a_1.png").unlink()
        (three / "img_a_1.png").unlink()
        with pytest.raises(OSError, match="404"):
            published.fetch(folder, address)
        server.shutdown()
    assert requested == [
        "/ref_1.png",
        "/img_a_1.png",
        "/img_b_1.png",
        *["/img_a_1.png"] * (len(requested) - 3),
    ]
    assert sorted(f.name for f in folder.iterdir()) == ["img_b_1.png", "ref_1.png"]
