"""The doctor: working parts pass, broken ones are reported with reason and fix."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster import doctor as engine
from cluster.settings import ClusterSettings
from cluster.storage.store import StoreError, open_store
from jobs import doctor
from jobs.cli import main
from jobs.commandline import exits
from originality.contract.config import SettingsError
from originality.contract.findings import UNEXPECTED, Check, Finding, examine, ok, skipped, warning
from originality.cost.memory_footprint import Footprint
from originality.cost.memory_plan import MemoryPlan
from originality.doctor import machine
from originality.doctor.memory import compared_with_plan
from originality.doctor.precision import BOUNDS
from originality.doctor.speed import Pace, rate
from originality.model import nvidia
from originality.model.attention import WHEEL, Choice
from originality.model.device import torch_device
from originality.model.diffusers_folder import MODELS
from originality.settings.parts import ModelSettings
from originality.settings.presets import load_settings

QUICK = (
    *("--seconds", "0.1", "--set", "inversion.batch_size=2", "--set", "inversion.lanes=1"),
    *("--set", "redraw.count=2", "--set", "redraw.steps=2"),
)
ROWS = [
    *("versions", "GPU", "xformers", "cache", "model", "loading", "domain", "attention", "half precision"),
    *("memory", "speed", "metric", "published distances", "detector", "pace", "store"),
    *("shared memory", "Ray"),
]


def output(*argv: str) -> tuple[int, str]:
    """Exit code and stdout."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(["doctor", *QUICK, *argv])
    return code, out.getvalue()


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of the model that ships, in bf16 on a CPU, and a folder for the run."""
    out = tmp_path_factory.mktemp("doctor") / "not" / "there"
    prices = ("--set", "cluster.prices={CPU: 0.1}")
    flags = ("--device", "cpu", "--set", "model.dtype=bf16", "--out", str(out), "--json")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        code, messages = output(*flags, *prices)
    report: dict[str, Any] = json.loads(messages)
    assert code == exits.ALL_JUDGED, messages
    assert not out.parent.exists() and out.parents[1].exists(), "something was left behind"
    return report


def rows(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in report["findings"]}


def test_the_shipped_model_passes(healthy: dict[str, Any]) -> None:
    found = rows(healthy)
    assert list(found) == ROWS and healthy["ok"] is True
    assert {row["state"] for row in found.values()} <= {"ok", "warning", "skipped"}
    assert [n for n, row in found.items() if row["state"] == "warning"] in ([], ["shared memory"])
    assert found["model"]["numbers"]["side"] == 64
    assert found["attention"]["numbers"]["processors"] == ["AttnProcessor2_0"]
    assert found["memory"]["numbers"]["samples_a_pass"]["step"] == 2


def test_half_precision_is_near_full_precision_but_differs(healthy: dict[str, Any]) -> None:
    half = rows(healthy)["half precision"]["numbers"]
    assert len(half["errors"]) == 5
    assert all(1e-4 < error < BOUNDS["bf16"] for error in half["errors"].values())


def test_pace_and_price_follow_from_speed_and_settings(healthy: dict[str, Any]) -> None:
    found, settings = rows(healthy), load_settings("laptop")
    pace, speed = found["pace"]["numbers"], found["speed"]["numbers"]
    steps = settings.inversion.steps * 2  # samples, of QUICK
    assert pace["seconds"]["inversion"] == pytest.approx(steps / speed["step"]["samples_per_second"])
    judged = found["metric"]["numbers"]["ms_an_image"] + found["detector"]["numbers"]["ms_an_image"]
    assert pace["seconds"]["judging"] == pytest.approx(2 * judged / 1e3)
    hours, usd = pace["images_per_hour"], pace["usd_per_1000"]
    assert hours["at_one_token"] == pytest.approx(3600 / sum(pace["seconds"].values()))
    assert hours["at_one_token"] == pytest.approx(settings.max_tokens * hours["at_max_tokens"])
    assert usd["at_one_token"] == pytest.approx(1000 * 0.1 / hours["at_one_token"])


def test_the_table_shows_the_findings_of_the_json(
    healthy: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    findings = [
        Finding(r["state"], r["found"], r["fix"], r["numbers"], r["name"]) for r in healthy["findings"]
    ]
    doctor.show([*findings, Finding("failed", "bad \x1b[2J", "mend it", {}, "a [b]")])
    *lines, last, fix, counts = capsys.readouterr().out.splitlines()
    where = lines[0].index(findings[0].found)
    for finding, line in zip(findings, (line for line in lines if line[0] != " "), strict=True):
        assert line.split("  ")[0] == finding.name and line[where:] == finding.found
        assert f" {finding.state} " in line
    assert last[where:] == "bad \\x1b[2J" and last.startswith("a [b] ")
    assert fix == " " * where + "fix: mend it"
    assert counts.startswith(f"{sum(f.state == 'ok' for f in findings)} ok") and "1 failed" in counts


def test_a_broken_model_is_a_row_with_its_fix(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODELS / "shapes", folder)
    (weights,) = (folder / "unet").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    code, messages = output(
        "--model", str(folder), "--device", "cpu", "--set", "in_distribution.check=none", "--json"
    )
    found = rows(json.loads(messages))
    assert code == exits.BAD_SETTINGS and list(found) == ROWS
    assert found["model"]["state"] == "failed"
    assert f"{weights} is cut off or damaged" in found["model"]["found"]
    assert "\n" not in found["model"]["found"] and found["model"]["fix"] == "fetch it again"
    assert found["loading"]["found"] == "it needs model"
    for name in ("domain", "attention", "half precision"):
        assert found[name] == {**found[name], "state": "skipped", "found": "it needs loading"}
    assert found["pace"]["found"] == "it needs speed"
    assert found["metric"]["state"] == found["Ray"]["state"] == "ok", "the others are looked at"


@pytest.mark.long
def test_an_invalid_model_and_an_invalid_store_are_rows_with_fixes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    (tmp_path / "file").write_text("")
    flags = ("--model", "llama3:8b", "--device", "cpu", "--out", str(tmp_path / "file"))
    # a separate process: this one may have a Ray
    doctor = [sys.executable, "-m", "jobs.doctor", *QUICK, *flags]
    done = subprocess.run(doctor, capture_output=True, text=True)
    code, messages = done.returncode, done.stdout
    assert code == exits.BAD_SETTINGS
    lines = [" ".join(line.split()) for line in messages.splitlines()]
    at = next(k for k, line in enumerate(lines) if line.startswith("model failed"))
    assert "'llama3:8b'" in lines[at] and lines[at + 1].startswith("fix: ")
    assert any(line.startswith("loading skipped") for line in lines)
    at = next(k for k, line in enumerate(lines) if line.startswith("store failed"))
    assert str(tmp_path / "file") in lines[at] and lines[at + 1].startswith("fix: ")
    at = next(k for k, line in enumerate(lines) if line.startswith("Ray failed"))
    assert "127.0.0.1:1" in lines[at] and "RAY_ADDRESS" in lines[at + 1]
    assert lines[-1].endswith("3 failed, 8 skipped"), messages


KERNEL_MODULE = """\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder@U22)
GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)
"""
"""What /proc/driver/nvidia/version holds."""


def test_the_driver_version_is_nvidia_smis_without_a_kernel_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvidia, "KERNEL_MODULE", tmp_path / "version")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia.driver() is None
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 535.104.05\n")
    command.chmod(0o755)
    assert nvidia.driver() == "535.104.05"
    command.write_text("#!/bin/sh\nexit 9\n")
    assert nvidia.driver() is None


def test_a_missing_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    wanted = machine.gpu(ModelSettings(device="cuda"))
    assert wanted.state == "failed" and "Found no NVIDIA driver" in wanted.found
    assert wanted.fix and "--device cpu" in wanted.fix
    assert machine.gpu(ModelSettings(device="auto")).state == "ok"
    monkeypatch.setattr(nvidia, "KERNEL_MODULE", tmp_path / "version")
    (tmp_path / "version").write_text(KERNEL_MODULE.format("470.256.02"))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    old = machine.gpu(ModelSettings(device="auto"))
    assert old.state == "warning" and old.numbers["driver"] == "470.256.02"
    assert old.fix and "470.256.02" in old.fix and "CUDA 13.0 needs 580" in old.fix
    with pytest.raises(SettingsError, match=r"driver is 470\.256\.02, .* --device cpu"):
        torch_device(ModelSettings(device="cuda"))
    (tmp_path / "version").write_text(KERNEL_MODULE.format("580.159.04"))
    hidden = machine.gpu(ModelSettings(device="cuda"))
    assert hidden.fix and "nvidia-smi" in hidden.fix
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES='' hides its GPUs" in (nvidia.missing() or "")
    monkeypatch.setattr(torch.version, "cuda", None)
    build = machine.gpu(ModelSettings(device="cuda"))
    assert build.state == "failed" and build.fix and "--force-reinstall torch" in build.fix


def test_missing_xformers() -> None:
    if machine.installed_version("xformers"):
        pytest.skip("it is installed")
    cpu = torch.device("cpu")
    assert machine.xformers(ModelSettings(device="cpu"), cpu).state == "ok"
    requested = machine.xformers(ModelSettings(device="cpu", attention="xformers"), cpu)
    assert requested.state == "failed" and requested.fix == "use --set model.attention=sdpa"


def test_xformers_for_a_different_cuda_version_has_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its wheel is of CUDA 12, and torch's of 13: seen on an H200."""
    why = "xformers of version 0.0.35 fails on heads of 40: libcudart.so.12: cannot open shared object file"
    monkeypatch.setattr(machine, "choose", lambda *given: Choice("sdpa", why))
    monkeypatch.setattr(machine, "installed_version", lambda name: "0.0.35")
    monkeypatch.setattr(machine, "requirements_of", lambda name: [])
    messages = machine.xformers(ModelSettings(device="auto"), torch.device("cuda"))
    assert messages.state == "warning" and why in messages.found
    assert messages.fix and WHEEL in messages.fix


@pytest.mark.parametrize(
    ("step", "drawing", "halved", "messages"),
    [
        (1100, 210, False, None),
        (1200, 210, False, "more than planned"),
        (1100, 300, False, "more than planned"),
        (1100, 210, True, "memory ran out"),
    ],
)
def test_peak_memory_of_a_gpu_is_compared_with_the_plan(
    step: int, drawing: int, halved: bool, messages: str | None
) -> None:
    takes = Footprint(100, 50, 10, 40)
    planned = MemoryPlan(10_000, takes, lanes=1, step=10, denoising=10, decoding=5, checkpointing=False)
    found = compared_with_plan(planned, step, drawing, halved, {})
    assert found.state == ("warning" if messages else "ok")
    assert messages is None or (found.found.endswith(messages) and found.fix)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_all_rows_are_measured() -> None:
    code, messages = output("--device", "cuda", "--set", "model.dtype=fp16", "--json", "--seconds", "5")
    found = rows(json.loads(messages))
    assert code == exits.ALL_JUDGED, messages
    assert found["GPU"]["numbers"]["memory_bytes"] > 0
    assert all(error < BOUNDS["fp16"] for error in found["half precision"]["numbers"]["errors"].values())
    peaks, tried = found["memory"]["numbers"]["peak_bytes"], found["memory"]["numbers"]["samples_tried"]
    assert tried == found["memory"]["numbers"]["samples_a_pass"]["step"]
    assert peaks["step"] > 0 and peaks["drawing"] > 0
    assert found["pace"]["numbers"]["kind"] != "CPU"


def test_a_wrong_secret(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = engine.store(f"{s3}/doctor")
    assert right.state == "ok" and right.numbers == {"url": f"{s3}/doctor"}
    assert not list(open_store(f"{s3}/doctor").list()), "nothing is left behind"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    checks = engine.of_run(f"{s3}/doctor", ClusterSettings())[:1]
    (wrong,) = examine(checks, (StoreError,))
    assert wrong.state == "failed" and wrong.fix and "AWS_SECRET_ACCESS_KEY" in wrong.fix
    assert "another" not in wrong.found


def test_an_unreachable_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setattr(engine, "STORE_SECONDS", 0.2)
    with engine.impatient():
        (out,) = examine(engine.of_run("s3://bucket/run", ClusterSettings())[:1], (StoreError,))
    assert out.state == "failed" and out.fix and "AWS_ENDPOINT_URL" in out.fix


def test_an_unexpected_error_stops_no_other_check() -> None:
    def boom() -> Finding:
        raise ZeroDivisionError("by zero\nand more")

    def output() -> Finding:
        raise SettingsError("a; b is bad; mend b")

    def coloned() -> Finding:
        raise SettingsError("c: d is bad: mend d")

    messages: list[str] = []
    checks = [
        Check("one", boom),
        Check("two", lambda: ok("fine"), ("one",)),
        Check("three", lambda: ok("fine"), ("two",)),
        Check("four", output),
        Check("five", lambda: warning("hm", "do", n=1)),
        Check("six", lambda: skipped("as set")),
        Check("seven", lambda: ok("fine"), ("five", "six")),
        Check("eight", boom, fix="turn it on"),
        Check("nine", coloned),
    ]
    found = {f.name: (f.state, f.found, f.fix) for f in examine(checks, (SettingsError,), messages.append)}
    assert found == {
        "one": ("failed", "ZeroDivisionError: by zero", UNEXPECTED),
        "two": ("skipped", "it needs one", None),
        "three": ("skipped", "it needs two", None),
        "four": ("failed", "a; b is bad", "mend b"),
        "five": ("warning", "hm", "do"),
        "six": ("skipped", "as set", None),
        "seven": ("ok", "fine", None),
        "eight": ("failed", "ZeroDivisionError: by zero", "turn it on"),
        "nine": ("failed", "c: d is bad", "mend d"),
    }
    assert messages == ["one", "four", "five", "six", "seven", "eight", "nine"]


def test_a_rate_grows_to_the_planned_size_and_no_further() -> None:
    sizes: list[int] = []

    def prepare(samples: int):
        return lambda: sizes.append(samples)

    found = rate(prepare, 12, 1, 5.0)
    assert found.at == 12 and sorted(set(sizes)) == [1, 2, 4, 8, 12]
    sizes.clear()
    found = rate(prepare, 12, 1, 0.0)  # no time: one run
    assert found.at == 1 and sizes == [1]


def test_prices_by_the_names_of_gpus() -> None:
    how = ClusterSettings()
    assert engine.price(how, "NVIDIA L4") == ("L4", 0.80)
    assert engine.price(how, "Tesla T4") == ("T4", 0.53)
    assert engine.price(how, "NVIDIA A100-SXM4-80GB") == ("A100", 3.43)
    assert engine.price(how, "NVIDIA RTX PRO 6000 Blackwell Server Edition") == ("RTX-PRO-6000", 4.0)
    assert engine.price(how, "NVIDIA GeForce RTX 4090") == ("GeForce-RTX-4090", None)
    assert engine.price(how, "CPU") == ("CPU", None)
    assert Pace(10, 20, 6).per_hour(5) == 20


def test_bad_flags_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--seconds", "0"]) == exits.BAD_SETTINGS
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("originality: --seconds 0")
