"""A collection of mostly hostile files: good images are judged, bad ones rejected with the right code."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from cluster.run.folder import open_run
from jobs.auditing.audit_run import audit
from jobs.auditing.prepare import PreparedAudit
from jobs.commandline import exits
from originality.settings.presets import load_settings
from tests.support.hostile import write_good, write_hostile
from tests.support.joined_inputs import inputs
from tests.support.mean_colour import MeanColour
from tests.support.seaweed import BUCKET

SCIENCE = PreparedAudit(load_settings(), MeanColour, {})


def test_good_images_are_judged_and_each_bad_one_has_its_error_class(tmp_path: Path, local_ray: None) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    expected = write_hostile(folder)
    good = write_good(folder)
    assert len(expected) >= 60 and not set(expected) & set(good)
    assert audit(SCIENCE, str(folder), str(tmp_path / "run")) == exits.SOME_UNJUDGED
    rows = {row["path"]: row for row in inputs(open_run(str(tmp_path / "run")))}
    judged = {path for path, row in rows.items() if row["status"] == "judged"}
    hidden = {name for name in good if name.startswith(".")}
    assert judged == set(good) - hidden
    listed = {name: code for name, code in expected.items() if name in rows}
    assert len(listed) >= 60
    messages = {path: row["error_class"] for path, row in rows.items() if row["status"] == "rejected"}
    assert messages == listed
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "<script>alert" not in page


@pytest.mark.long
@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_hostile_names_do_no_harm(
    tmp_path: Path, local_ray: None, s3: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Newlines, quotes, markup, escape sequences, alphabets, and names that look like parent folders."""
    names = [
        "a\nb.png",
        "quote'\".png",
        "<img src=x onerror=alert(1)>.png",
        "\x1b[31mred.png",
        "ü 漢 \u202egnp.png",
        "%2e%2e%2fup.png",
        "up\\..\\up.png",
        " space .png",
        "a;rm -rf *.png",
    ]
    if place == "bucket":
        names.remove("up\\..\\up.png")  # SeaweedFS refuses it
    source = tmp_path / "in"
    for i, name in enumerate(names):
        paint_bytes(source, name, i)
    if place == "bucket":
        client = boto3.client("s3")
        for file in source.iterdir():
            key = f"names/{file.name}"
            client.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes())
    where = f"{s3}/names" if place == "bucket" else str(source)
    out = f"{s3}/names-run" if place == "bucket" else str(tmp_path / "run")
    assert audit(SCIENCE, where, out) == exits.ALL_JUDGED
    rows = {row["path"]: row["status"] for row in inputs(open_run(out))}
    assert len(rows) == len(names) and set(rows.values()) == {"judged"}
    if place == "folder":
        assert set(rows) == set(names)
    printed = capsys.readouterr()
    assert "\x1b[31m" not in printed.out + printed.err
    page = open_run(out).store.read("report/index.html").decode()
    assert "<img src=x" not in page and "onerror=alert(1)>" not in page
    assert {path.name for path in tmp_path.iterdir()} <= {"in", "run"}


def paint_bytes(folder: Path, name: str, value: int) -> None:
    from tests.support.mean_colour import paint

    paint(folder, "plain.png", (value, value, value)).rename(folder / name)
