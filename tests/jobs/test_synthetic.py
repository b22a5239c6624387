"""The commands of the world of shapes: render, detect, train, and the experiments on a real Ray."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image

from cluster.run.folder import RunFolder, RunMismatch, open_run
from cluster.storage.store import StoreError
from jobs import experiment
from jobs.cli import main
from jobs.commandline import exits
from jobs.experimenting.plan_runs import id_of, plan_items
from jobs.experimenting.takeover import Earlier
from originality.contract.scorer import Item
from originality.contract.settings_files import merged
from originality.experiments.scales import SCALES
from originality.experiments.tasks.long_task import FORMAT, OneAtATime
from originality.experiments.tasks.measure_elements import ElementsMeasure, ElementsMeasuring
from originality.experiments.tasks.plans import ElementsPlan, PairsPlan
from originality.shapes.elements import elements_of
from tests.support.long_task import finished
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE, until

TINY = {
    "diversities": [4],
    "repeats": 1,
    "controls": [],
    "images": 96,
    "redraw": {"steps": 2},
    "recipe": {
        "denoiser": {"channels": [32, 32], "heads": 4, "images": 600, "batch_size": 4, "steps": [150]},
    },
}
"""Settings of the diversity experiment with which it takes seconds."""


def synthetic(*arguments: object) -> int:
    return main(["synthetic", *map(str, arguments)])


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_an_image_folder_with_captions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    flags = ("render", "elements", "--out", out, "--count", 25, "--part-size", 10, "--side", 128)
    chosen = ("--shapes", "square", "circle", "--missing", "big red full square", "--max-elements", 2)
    chosen += ("--frequencies", "big blue full square=20")
    assert synthetic(*flags, *chosen) == exits.ALL_JUDGED
    assert "25 images in" in capsys.readouterr().out
    rows = [row for part in range(3) for row in lines(out / f"{part:05}" / "metadata.jsonl")]
    plan = ElementsPlan(
        kind="elements",
        shapes=("square", "circle"),
        missing=("big red full square",),
        max_elements=2,
        frequencies={"big blue full square": 20.0},
    )
    for number, row in enumerate(rows):
        scene = plan.images().scene(0, number)
        assert row["file_name"] == f"{number:07}.png" and row["text"] == scene.caption
        assert [e["element"] for e in row["elements"]] == [str(e) for e in scene.elements]
        assert "big red full square" not in row["text"] and len(elements_of(row["text"])) <= 2
        with Image.open(out / f"{number // 10:05}" / row["file_name"]) as image:
            assert image.size == (128, 128)
            assert image.tobytes() == scene.image(128).tobytes()
    last = out / "00002" / "metadata.jsonl"
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.png")}
    last.unlink()  # as if it had been cut off there
    assert synthetic(*flags, *chosen) == exits.ALL_JUDGED
    assert lines(last) == rows[20:]
    assert all(file.stat().st_mtime_ns == at for file, at in before.items() if file.parent.name != "00002")
    capsys.readouterr()
    assert synthetic(*flags) == exits.BAD_SETTINGS
    assert "set.json" in capsys.readouterr().err


def test_shards_of_webdataset_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        flags = ("--count", 12, "--part-size", 8, "--format", "webdataset", "--common-share", 0.8)
        assert synthetic("render", "pairs", "--out", tmp_path / name, *flags) == exits.ALL_JUDGED
    first, second = ((tmp_path / name / "00000.tar").read_bytes() for name in ("a", "b"))
    assert first == second
    with tarfile.open(tmp_path / "a" / "00001.tar") as tar:
        names = tar.getnames()
        assert names[:3] == ["0000008.json", "0000008.png", "0000008.txt"] and len(names) == 12
        texts = [tar.extractfile(n) for n in names if n.endswith(".txt")]
        output = [text.read().decode() for text in texts if text is not None]
    plan = PairsPlan(kind="pairs", common_share=0.8).images()
    assert output == [plan.scene(0, number).caption for number in range(8, 12)]


@pytest.mark.parametrize(
    "flags, message",
    [
        (("render", "pairs", "--shapes", "circle"), "--shapes"),
        (("render", "elements", "--shapes", "oval"), "'circle'"),
        (("render", "elements", "--missing", "red square"), "'size colour texture shape'"),
        (
            ("render", "elements", "--frequencies", "big red full square"),
            "'big red full square=0.01'",
        ),
        (
            ("render", "elements", "--frequencies", "big red full square=x"),
            "big red full square",
        ),
        (
            ("render", "elements", "--frequencies", "big red full square=1", "big red full square=2"),
            "--frequencies",
        ),
        (("render", "pairs", "--frequencies", "big red full square=2"), "'pairs'"),
        (("render", "elements", "--side", "100"), "--side 100"),
        (("render", "elements", "--count", "0"), "--count 0"),
        (("experiment", "frequency", "--set", "qeries=3"), "'qeries'"),
        (("experiment", "diversity", "--set", "diversities=[5]"), "4, 8, 15, 30 or 60"),
        (("experiment", "frequency", "--set", "preset=latpop"), "'laptop'"),
        (("experiment", "frequency", "--set", "over.inversion.stepz=3"), "'inversion.stepz'"),
        (("experiment", "conditions", "--set", "trainings=[shorterr]"), "'shorter'"),
        (("experiment", "frequency", "--set", "recipe.side=100"), "64"),
        (("experiment", "frequency", "--set", "recipe.denoiser.images=5"), "64"),
        (("experiment", "frequency", "--set", "recipe.denoiser.steps=[]"), "steps"),
        (("experiment", "frequency", "--set", "recipe.denoiser.channels=[24, 24]"), "norm_groups"),
        (("experiment", "frequency", "--set", "recipe.denoiser.caption_dropout=5"), "caption_dropout"),
        (("experiment", "frequency", "--set", "recipe.text.pretrained=/no/such"), "/no/such"),
        (("experiment", "diversity", "--set", "diversities=[]"), "diversities"),
        (("experiment", "frequency", "--keep", "s3://bucket/kept"), "--keep s3://bucket/kept"),
        (("train", "plan.yaml"), "plan.yaml"),
    ],
)
def test_mistakes_are_reported_in_one_line(
    tmp_path: Path, flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synthetic(*flags, "--out", tmp_path / "out") == exits.BAD_SETTINGS
    messages = capsys.readouterr().err
    assert message in messages and messages.count("\n") == 1


def test_detected_elements_are_those_rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic("render", "elements", "--out", tmp_path / "set", "--count", 30, "--side", 256)
    truth = lines(tmp_path / "set" / "00000" / "metadata.jsonl")
    (tmp_path / "set" / "00000" / "text.png").write_text("no image")
    found = tmp_path / "found.jsonl"
    capsys.readouterr()
    assert synthetic("detect", tmp_path / "set", "--out", found) == exits.SOME_UNJUDGED
    assert "1 unreadable" in capsys.readouterr().err
    rows = {Path(row["uri"]).name: row for row in lines(found)}
    assert rows["text.png"]["error_class"] == "not-an-image"
    right = [
        sorted(e["element"] for e in rows[row["file_name"]]["elements"])
        == sorted(e["element"] for e in row["elements"])
        for row in truth
    ]
    assert sum(right) >= 24  # some elements hide others


def started(*arguments: object, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jobs.cli", "synthetic", *map(str, arguments)]
    command += ["--device", "cpu", "--max-workers", "1", "--snapshot-every", "0.5"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def killed_at_work(process: subprocess.Popen[str], run: Path) -> None:
    """All of it, as when the machine loses power, once a snapshot of its item at work is there; which is made
    to say that it took 10,000 seconds."""
    until(lambda: list((run / "progress").glob("*.snapshot")), process)
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        one.kill()
    assert process.wait(PATIENCE) == -signal.SIGKILL
    assert not list((run / "records").rglob("*.json"))
    (snapshot,) = (run / "progress").glob("*.snapshot")
    snapshot.write_bytes(with_more_seconds(snapshot.read_bytes(), 10_000.0))


def ended(process: subprocess.Popen[str]) -> str:
    """Output of a command that succeeded."""
    out, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == exits.ALL_JUDGED, error
    return out.strip()


def with_more_seconds(snapshot: bytes, more: float) -> bytes:
    """A snapshot with this much more working time recorded."""
    start = len(FORMAT) + hashlib.sha256().digest_size
    kept = torch.load(io.BytesIO(snapshot[start:]), weights_only=True)
    body = io.BytesIO()
    torch.save({**kept, "seconds": kept["seconds"] + more}, body)
    return FORMAT + hashlib.sha256(body.getvalue()).digest() + body.getvalue()


@pytest.mark.long
def test_a_killed_experiment_resumes_to_the_model_of_an_undisturbed_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, kept = tmp_path / "killed", tmp_path / "kept"
    over = [f"--set={name}={json.dumps(value)}" for name, value in TINY.items()]
    flags = ("experiment", "diversity", "--out", out, "--keep", kept, *over)
    for run in ("train", "measure"):
        killed_at_work(started(*flags, cache=tmp_path / "a"), out / run)
    assert ended(started(*flags, cache=tmp_path / "a")) == str(kept)

    usual = SCALES["laptop"]["diversity"]
    plan = type(usual).model_validate(merged(usual.model_dump(), TINY)).plans()[0]
    file = tmp_path / "plan.yaml"
    file.write_text(json.dumps(plan.document()))
    messages = ended(started("train", file, "--out", tmp_path / "run", cache=tmp_path / "b"))
    name, _, folder = messages.partition(": ")
    assert name == plan.name and (Path(folder) / "unet" / "diffusion_pytorch_model.safetensors").exists()
    (whole,) = open_run(str(tmp_path / "run")).ledger.rows()
    (resumed,) = lines(kept / "trainings.jsonl")
    assert resumed["weights_digest"] == whole["weights_digest"] and resumed["losses"] == whole["losses"]
    assert whole["seconds"] < 10_000 < resumed["seconds"]  # it went on from the snapshot

    again = (*flags[:2], "--out", tmp_path / "again", "--before", kept, "--keep", tmp_path / "kept-again")
    capsys.readouterr()
    assert synthetic(*again, *over, "--device", "cpu") == exits.ALL_JUDGED
    assert "starting Ray" not in capsys.readouterr().err  # there is nothing to do
    files = [file.relative_to(kept) for file in sorted(kept.rglob("*")) if file.is_file()]
    assert len(files) == 10
    for path in files:
        assert (tmp_path / "kept-again" / path).read_bytes() == (kept / path).read_bytes()
    assert not list((tmp_path / "again" / "train").rglob("*.safetensors"))  # no model was kept, and none made
    for where in (kept, tmp_path / "again"):  # neither has the model
        earlier = Earlier.at(str(where))
        ids = [record["image_id"] for record in lines(kept / "measures.jsonl")]
        assert earlier.has(whole["image_id"], ids) and not earlier.has(whole["image_id"], [*ids, "another"])
    assert Earlier.at(str(out)).has(whole["image_id"], ["another"])
    more = (*over, "--set", "images=97", "--device", "cpu")
    for requested, refused in (
        (again, "elements-4-0"),
        (again[:-2], "--before"),
    ):
        capsys.readouterr()
        assert synthetic(*requested, *more) == exits.BAD_SETTINGS
        assert refused in capsys.readouterr().err

    measure, of_shown = lines(kept / "measures.jsonl")
    requested = ElementsMeasure.model_validate(measure["measure"])
    undisturbed = OneAtATime(lambda _: ElementsMeasuring(requested, Path(folder), "cpu"))
    undisturbed.admit(Item("a", {}))
    assert measure["prompts"] == finished(undisturbed)[0].record["prompts"]
    assert measure["seconds"] > 10_000 > of_shown["seconds"]  # it too went on from its snapshot
    assert of_shown["name"] == f"{measure['name']}-shown" and len(of_shown["prompts"]) == 3
    assert [p["images"] for p in measure["prompts"]] == [96, 96, 96]
    assert (kept / plan.name / "drawn-empty.webp").exists()
    run = str(out / "measure")
    capsys.readouterr()
    assert main(["status", run]) == exits.ALL_JUDGED
    assert "2 judged, 0 rejected, 0 failed, 0 pending" in capsys.readouterr().out
    assert main(["retry", run, "--status", "failed"]) == exits.ALL_JUDGED
    capsys.readouterr()
    assert main(["report", run]) == exits.BAD_SETTINGS
    assert "'measure'" in capsys.readouterr().err


def test_measurements_made_before_an_interrupt_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(run: RunFolder, *_: object) -> None:
        item = json.loads(run.store.read("items/000-elements-4-0.json"))
        run.ledger.commit(id_of(item), {"name": "elements-4-0", "status": "judged"}, {})
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "train", lambda *_: None)
    monkeypatch.setattr(experiment, "measure", stopped)
    over = [f"--set={name}={json.dumps(value)}" for name, value in TINY.items()]
    flags = ("experiment", "diversity", "--out", tmp_path / "out", "--keep", tmp_path / "kept", *over)
    assert synthetic(*flags) == exits.INTERRUPTED
    (kept,) = lines(tmp_path / "kept" / "measures.jsonl")
    assert kept["name"] == "elements-4-0"


def test_items_of_a_killed_start_are_not_taken_for_those_of_the_next(tmp_path: Path) -> None:
    """The start was killed before it planned its run, and its items differ from the next one's."""
    for name in ("000-x", "001-y"):
        file = tmp_path / "items" / f"{name}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text('{"rate": 1}')
    requested = (str(tmp_path), {"000-x": {"rate": 2}}, {"job": "train", "models": ["2"]})
    with pytest.raises(StoreError, match=r"001-y\.json"):
        plan_items(*requested)
    assert file.exists()
    file.unlink()
    run = plan_items(*requested)
    assert [run.manifest.path(n) for n in range(len(run.manifest))] == ["000-x.json"]
    assert json.loads((tmp_path / "items" / "000-x.json").read_text()) == {"rate": 2}
    with pytest.raises(RunMismatch):
        plan_items(str(tmp_path), {"000-x": {"rate": 3}}, {"job": "train", "models": ["3"]})
    assert json.loads((tmp_path / "items" / "000-x.json").read_text()) == {"rate": 2}
