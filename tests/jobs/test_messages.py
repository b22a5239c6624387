"""The ten messages that users meet most often, word for word.

All other tests check type, exit code and one token of a message, so that wording can change. These ten may
change too, but not by accident.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cluster.ray_runtime import ray_address
from cluster.run.folder import RunMismatch, plan
from cluster.storage.store import open_store
from jobs import INTERRUPTED_MESSAGE
from jobs.cli import main
from jobs.commandline import exits
from originality.contract.config import SettingsError
from originality.model import nvidia
from originality.model.device import torch_device
from originality.settings.parts import ModelSettings
from tests.support.mean_colour import paint


def message(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line on stderr of a command that is refused."""
    assert main([str(part) for part in argv]) == exits.BAD_SETTINGS
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit = ("audit", tmp_path, "--out", tmp_path / "run")
    assert message(capsys, *audit, "--set", "inversion.stepz=3") == (
        "originality: unknown setting 'inversion.stepz'; did you mean 'steps'?\n"
    )
    assert message(capsys, *audit, "--preset", "papr") == (
        "originality: preset 'papr' is unknown; did you mean 'paper'?\n"
    )
    assert message(capsys, "audit", tmp_path) == (
        "originality: --out is missing: name a folder for the results\n"
    )


def test_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    none, empty = tmp_path / "none", tmp_path / "empty"
    empty.mkdir()
    assert message(capsys, "audit", none, "--dry-run") == (
        f"originality: {none} does not exist; give a folder of images\n"
    )
    assert message(capsys, "audit", empty, "--dry-run") == (
        f"originality: no files in {empty}; give a folder or prefix that holds images\n"
    )
    assert message(capsys, "status", empty) == (
        f"originality: {empty} holds no run; give the --out of an audit or of an experiment's part\n"
    )


def test_a_resume_with_different_settings(tmp_path: Path) -> None:
    paint(tmp_path / "in", "a.png", (1, 2, 3))
    store = open_store(str(tmp_path / "run"))
    plan(str(tmp_path / "in"), store, {"settings": {"seed": 0}})
    with pytest.raises(RunMismatch) as caught:
        plan(str(tmp_path / "in"), store, {"settings": {"seed": 1}})
    assert str(caught.value) == (
        f"{store.url} holds a run with other settings (settings.seed: 0 -> 1); "
        "use the same settings, or a different --out (of an audit also: --force-new, for a folder beside it)"
    )


def test_an_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> int:
        raise KeyboardInterrupt

    assert exits.run(job) == exits.INTERRUPTED
    assert capsys.readouterr().err == f"originality: {INTERRUPTED_MESSAGE}\n"
    assert INTERRUPTED_MESSAGE == "interrupted; run the same command again to resume"


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(nvidia, "missing", lambda: None)
    with pytest.raises(SettingsError) as caught:
        torch_device(ModelSettings(device="cuda"))
    assert str(caught.value) == "device is cuda, but torch sees no GPU; use --device cpu"


def test_no_ray_cluster() -> None:
    with pytest.raises(ray_address.Unusable) as caught:
        ray_address.check("127.0.0.1:1")
    assert str(caught.value) == (
        "cannot reach Ray at RAY_ADDRESS=127.0.0.1:1 (Connection refused); start the cluster, or unset "
        "RAY_ADDRESS to run on this machine"
    )
