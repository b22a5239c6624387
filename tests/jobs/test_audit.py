"""The audit from folder to report, with a small scorer instead of a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.dataset as ds
import pytest
import torch

from cluster.inputs.manifest import Selection
from cluster.run.folder import RunMismatch, open_run, plan
from cluster.storage.store import NotFound, open_store
from jobs.auditing.audit_run import audit, identity, plan_audit
from jobs.auditing.prepare import PreparedAudit, prepare
from jobs.auditing.verdict_table import ATTEMPT, SCHEMA
from jobs.commandline import exits
from jobs.retry import retry
from originality.contract.config import SettingsError
from originality.evaluation.verdict import Attempt, Verdict
from originality.model import nvidia
from originality.settings.presets import load_settings
from tests.support.joined_inputs import inputs
from tests.support.mean_colour import REFUSED, MeanColour, paint


def test_columns_are_those_of_a_verdict() -> None:
    assert SCHEMA.names == list(Verdict.model_fields)
    assert [field.name for field in ATTEMPT] == list(Attempt.model_fields)


def test_audit_resume_and_refusal(
    tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "run"
    for i in range(5):
        paint(folder, f"{i}.png", (i, i, i))
    paint(folder, "4-again.png", (4, 4, 4))
    settings = load_settings()

    def run(limit: int | None = None) -> int:
        science = PreparedAudit(settings, MeanColour, {"model_digest": "abc"})
        return audit(science, str(folder), str(out), selection=Selection(limit=limit))

    assert run(limit=2) == exits.ALL_JUDGED
    assert json.loads((out / "summary.json").read_text())["pending"] == 4
    before = {path: path.read_bytes() for path in out.glob("records/*/*.json")}
    folder.rename(tmp_path / "away")
    with pytest.raises(NotFound, match=r"/in\b"):
        run()
    (tmp_path / "away").rename(folder)
    for name in ("4.png", "4-again.png"):
        (folder / name).rename(tmp_path / name)
    assert run() == exits.SOME_UNJUDGED
    assert json.loads((out / "summary.json").read_text())["errors"] == {"missing": 2}
    for name in ("4.png", "4-again.png"):
        (tmp_path / name).rename(folder / name)
    assert retry(open_run(str(out)), "failed", "missing") == {"missing": 2}
    assert run() == exits.ALL_JUDGED
    assert len(before) == 2 and all(path.read_bytes() == old for path, old in before.items())
    summary = json.loads((out / "summary.json").read_text())
    assert summary["min_tokens"] == {"1": 1, "2": 1, "3": 1, "4": 1, "censored": 1}
    assert (summary["inputs"], summary["images"], summary["pending"]) == (6, 5, 0)

    capsys.readouterr()
    assert run() == exits.ALL_JUDGED
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:-1]] == [
        ["'0.png'", "1", "judged"],
        ["'1.png'", "2", "judged"],
        ["'2.png'", "3", "judged"],
        ["'3.png'", "4", "judged"],
        ["'4-again.png'", "+", "judged"],
        ["'4.png'", "+", "judged"],
    ]
    assert Path(lines[-1]).is_file()

    table = ds.dataset(out / "verdicts").to_table()
    assert table.schema.names == SCHEMA.names and table.num_rows == 5
    assert table["settings_digest"].to_pylist() == [settings.digest()] * 5
    settings = load_settings(flags={"seed": 9})
    with pytest.raises(RunMismatch, match=r"settings\.seed: 0 -> 9"):
        run()


OF_BEFORE = {
    "distance": {"folder": None, "metric": "elements", "threshold": 0.3},
    "domain": "shapes",
    "in_distribution": {"check": "positions", "threshold": 0.5},
    "inversion": {
        **{"batch_size": 8, "lanes": 3, "learning_rate": 0.01, "steps": 60},
        "timesteps": "stratified",
    },
    "max_tokens": 5,
    "model": {"device": "auto", "dtype": "fp32", "fit": "crop", "path": "shapes", "revision": None},
    "redraw": {
        **{"count": 20, "guidance_scale": 3.0, "prompt": "a photo of {}", "scheduler": "dpm++"},
        "steps": 15,
    },
    "seed": 0,
}
"""Settings of the preset "laptop" as run.json had them before there were others; their digest then."""
DIGEST_OF_BEFORE = "34cbd5fedf014275"


def test_a_run_from_before_some_settings_existed_resumes(tmp_path: Path) -> None:
    """Where those stand at their defaults; and only there."""
    paint(tmp_path / "in", "0.png", (0, 0, 0))
    source, out = str(tmp_path / "in"), str(tmp_path / "run")
    science = PreparedAudit(load_settings(), MeanColour, {"model_digest": "abc"})
    begun = identity(science, source) | {
        "settings": OF_BEFORE,
        "settings_digest": DIGEST_OF_BEFORE,
    }
    first = plan(source, open_store(out), begun)
    assert plan_audit(science, source, out).description == first.description
    other = replace(science, settings=load_settings(flags={"model": {"attention": "sliced"}}))
    with pytest.raises(
        RunMismatch, match=r"\(settings\.model\.attention: 'auto' -> 'sliced'; settings_digest"
    ):
        plan_audit(other, source, out)


def test_images_that_cannot_be_judged_give_exit_code_3(tmp_path: Path, local_ray: None) -> None:
    folder, out = tmp_path / "in", tmp_path / "run"
    paint(folder, "refused.png", REFUSED)
    (folder / "text.png").write_text("no image")
    code = audit(PreparedAudit(load_settings(), MeanColour, {}), str(folder), str(out))
    assert code == exits.SOME_UNJUDGED
    rows = {row["path"]: row for row in inputs(open_run(str(out)))}
    assert rows["text.png"]["error_class"] == "not-an-image"
    assert set(SCHEMA.names) <= set(rows["text.png"])
    assert rows["refused.png"]["error_message"] == "blue is not to my taste"


def test_a_driver_that_is_too_old_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(nvidia, "KERNEL_MODULE", tmp_path / "version")
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu\n")
    needs = "NVIDIA's driver is 550.54.14, and torch for CUDA 13.0 needs 580 or newer"
    with pytest.raises(SettingsError, match=f"{needs}.* --device cpu"):
        prepare(load_settings(flags={"model": {"device": "cuda"}}))
    prepare(load_settings(flags={"model": {"device": "auto"}}))
    assert needs in caplog.text
    caplog.clear()
    prepare(load_settings(flags={"model": {"device": "cpu"}}))
    assert not caplog.records
