"""The audit with a model in a bucket."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cluster.run.folder import open_run
from cluster.storage.store import open_store
from cluster.weights.upload import put
from jobs.auditing.prepare import scorer_of
from jobs.cli import main
from jobs.commandline import exits
from originality.contract import outline
from originality.contract.config import SettingsError
from originality.model.diffusers_folder import MODELS
from originality.settings.presets import load_settings
from tests.support.joined_inputs import inputs
from tests.support.places import ROOT

SHAPES = MODELS / "shapes"
SHORT = (
    *("--set", "inversion.steps=2", "--set", "inversion.batch_size=2", "--set", "redraw.count=2"),
    *("--set", "redraw.steps=2", "--max-tokens", "1", "--max-workers", "1", "--device", "cpu"),
)


@pytest.fixture
def model(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of the model that ships; this node has no copy of it yet."""
    monkeypatch.setenv("ORIGINALITY_CACHE", str(tmp_path / "cache"))
    store = open_store(f"{s3}/models/shapes")
    put({f.relative_to(SHAPES).as_posix(): f for f in SHAPES.rglob("*") if f.is_file()}, store)
    return store.url


@pytest.mark.long
def test_the_verdicts_are_those_of_the_same_model_in_a_folder(
    tmp_path: Path, model: str, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head of a cluster knows the digest by an outline; the worker fetches the weights."""
    images = tmp_path / "in"
    images.mkdir()
    for name in ("familiar-1.png", "unseen-1.png"):
        shutil.copy(ROOT / "examples" / name, images)
    far, near = tmp_path / "far", tmp_path / "near"
    with monkeypatch.context() as on_a_head:
        on_a_head.setenv("RAY_ADDRESS", "127.0.0.1:1")  # Ray runs already: it is not looked for there
        assert main(["audit", str(images), "--out", str(far), "--model", model, *SHORT]) == exits.ALL_JUDGED
    copies = [place for place in (tmp_path / "cache").iterdir() if (place / "unet").is_dir()]
    assert len(copies) == 1 and outline.absent(copies[0]), "the worker has a separate cache"
    assert not list(copies[0].rglob("*.safetensors"))
    copy = shutil.copytree(SHAPES, tmp_path / "model")
    assert main(["audit", str(images), "--out", str(near), "--model", str(copy), *SHORT]) == exits.ALL_JUDGED
    assert verdicts(far) == verdicts(near)
    one, other = open_run(str(far)).description, open_run(str(near)).description
    assert one["model_digest"] == other["model_digest"] and one["model"] == model


def test_a_different_model_than_that_of_the_run_judges_nothing(model: str) -> None:
    settings = load_settings(None, None, {"model": {"path": model, "device": "cpu"}})
    with pytest.raises(SettingsError, match="0123456789abcdef"):
        scorer_of(settings, "0123456789abcdef")


def test_a_prefix_without_a_model_is_reported_in_one_line(
    tmp_path: Path, s3: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, model = str(tmp_path / "run"), f"{s3}/nothing-here"
    assert main(["audit", str(ROOT / "examples"), "--out", out, "--model", model]) == exits.BAD_SETTINGS
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"originality: {s3}/nothing-here ") and "prefix" in line


def verdicts(run: Path) -> dict[str, str]:
    """Results of each image, without times and workers."""
    found = {}
    for row in inputs(open_run(str(run))):
        sweep = [{k: v for k, v in a.items() if k != "seconds"} for a in row["sweep"]]
        found[row["path"]] = json.dumps([row["status"], row["min_tokens"], sweep])
    return found
