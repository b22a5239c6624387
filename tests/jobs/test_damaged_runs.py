"""A finished run of which each file is damaged in turn: looked at, reported, and audited to the same end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.inputs.identities import image_id_of
from cluster.inputs.manifest import Selection
from cluster.run.folder import open_run
from cluster.run.layout import record_path
from cluster.storage.store import Damaged
from jobs.auditing.audit_run import audit
from jobs.auditing.prepare import PreparedAudit
from jobs.cli import main
from jobs.commandline import exits
from jobs.retry import retry
from originality.settings.presets import load_settings
from tests.support.joined_inputs import inputs
from tests.support.mean_colour import MeanColour, paint

pytestmark = pytest.mark.long

IMAGES = 4
_BY_WHOM = ("attempts", "worker", "finished_at", "artefacts")


def _middle(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


DAMAGES: list[Callable[[bytes], bytes]] = [_middle, lambda data: data[: len(data) // 2], lambda data: b""]


def judged(source: Path, out: Path, limit: int | None = None) -> int:
    science = PreparedAudit(load_settings(), MeanColour, {"model_digest": "abc"})
    return audit(science, str(source), str(out), selection=Selection(limit=limit))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> tuple[Path, Path]:
    """A collection and its run: one image missing at first and queued again, and two parts of verdicts."""
    folder = tmp_path_factory.mktemp("damage")
    for number in range(IMAGES):
        paint(folder / "in", f"{number}.png", (number, number, number))
    (folder / "in" / "0.png").rename(folder / "0.png")
    (folder / "in" / "0.png").symlink_to(folder / "nowhere")
    assert judged(folder / "in", folder / "run", limit=2) == exits.SOME_UNJUDGED
    (folder / "in" / "0.png").unlink()
    (folder / "0.png").rename(folder / "in" / "0.png")
    assert retry(open_run(str(folder / "run")), "failed", None).total() == 1
    assert judged(folder / "in", folder / "run") == exits.ALL_JUDGED
    return folder / "in", folder / "run"


def verdicts(out: Path) -> list[dict[str, Any]]:
    rows = [dict(row) for row in inputs(open_run(str(out)))]
    return [{key: value for key, value in row.items() if key not in _BY_WHOM} for row in rows]


def kinds(run: Path) -> dict[str, list[Path]]:
    """The files of a run folder by kind; pictures and the report itself are no part of its books."""
    found = [file.relative_to(run) for file in sorted(run.rglob("*")) if file.is_file()]
    files: dict[str, list[Path]] = {}
    for file in found:
        files.setdefault(file.parts[0], []).append(file)
    return {kind: paths for kind, paths in files.items() if kind not in ("images", "report", "progress")}


def test_every_verdict_is_there_in_the_end(
    sound: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, whole = sound
    wanted = verdicts(whole)
    assert [row["status"] for row in wanted] == ["judged"] * IMAGES
    found = kinds(whole)
    assert set(found) == {
        "run.json",
        "manifest.parquet",
        "summary.json",
        "inputs",
        "records",
        "retries",
        "verdicts",
    }
    once = Path(record_path(image_id_of((source / "3.png").read_bytes())))
    cases = [
        *((kind, [file]) for kind, files in found.items() for file in files),
        ("all parts", found["verdicts"]),
        ("all inputs", found["inputs"]),
        ("a record and its part", [once, *found["verdicts"]]),
        ("a folder: a record", [once, *found["verdicts"]]),
        ("a folder: a retry", found["retries"]),
        ("a folder: the summary", found["summary.json"]),
        ("gone: a retry", found["retries"]),
        ("all that can be", [file for kind, files in found.items() if kind[-1] == "s" for file in files]),
    ]
    for number, (kind, files) in enumerate(cases):
        out = tmp_path / f"run-{number}"
        shutil.copytree(whole, out)
        for file in files:
            if kind.startswith(("a folder", "gone")):
                (out / file).unlink()
                if kind.startswith("a folder"):
                    (out / file).mkdir()
                continue
            (out / file).write_bytes(DAMAGES[number % len(DAMAGES)]((out / file).read_bytes()))
        if kind in ("run.json", "manifest.parquet"):
            assert main(["status", str(out)]) == main(["report", str(out)]) == exits.BAD_SETTINGS
            with pytest.raises(Damaged, match=f"{kind} is damaged"):
                judged(source, out)
            continue
        assert main(["status", str(out)]) == main(["report", str(out)]) == exits.ALL_JUDGED
        assert judged(source, out) == exits.ALL_JUDGED, files
        assert verdicts(out) == wanted, files
        capsys.readouterr()
        assert main(["status", str(out), "--json"]) == exits.ALL_JUDGED
        captured = capsys.readouterr()
        output = json.loads(captured.out)
        assert (output["judged"], output["pending"]) == (IMAGES, 0)
        assert output["damaged"] == [] and not captured.err
