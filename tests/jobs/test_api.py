"""``import originality``: the same verdicts as the command's, from whatever holds an image."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import originality
from jobs.cli import main
from tests.support.places import EXAMPLES, ROOT, python_path
from tests.support.short_audits import SHORT
from tests.support.sweeps import timeless

NAMES = ("familiar-1.png", "rare-1.png", "unseen-1.png")
QUICK = {"inversion": {"steps": 2, "batch_size": 2}, "redraw": {"count": 2, "steps": 2}}


@pytest.fixture(scope="module")
def auditor() -> Iterator[originality.Auditor]:
    with originality.Auditor("laptop", settings=QUICK, device="cpu", max_tokens=1) as auditor:
        yield auditor


@pytest.fixture(scope="module")
def verdicts(auditor: originality.Auditor) -> list[originality.Verdict]:
    return list(auditor.judge_many(EXAMPLES / name for name in NAMES))


def science(row: dict) -> dict:
    """A row without what the engine adds of the attempt: who wrote it, and where its artefacts are."""
    return {k: v for k, v in timeless(row).items() if k not in ("worker", "artefacts", "attempts")}


def test_the_import_is_cheap_and_complete() -> None:
    code = """
import sys, originality
print(sorted({"torch", "ray", "numpy", "pydantic"} & set(sys.modules)))
print(sorted(set(originality.__all__) - set(dir(originality))), originality.__version__)
"""
    environment = {"PYTHONPATH": python_path()}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("[]\n[] 0."), done.stderr
    with pytest.raises(AttributeError, match="nothing"):
        originality.nothing  # noqa: B018


def test_a_run_is_opened_without_torch() -> None:
    code = "import sys, originality; originality.open_run; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": python_path()}, capture_output=True, text=True
    )
    assert done.stdout == "False\n", done.stderr


@pytest.mark.long
def test_verdicts_are_the_commands_to_the_bit(
    verdicts: list[originality.Verdict], tmp_path: Path, local_ray: None
) -> None:
    for name in NAMES:
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes((EXAMPLES / name).read_bytes())
    command = ["audit", str(tmp_path / "in"), "--out", str(tmp_path / "run"), "--preset", "laptop"]
    main([*command, "--device", "cpu", *SHORT])
    run = originality.open_run(str(tmp_path / "run"))
    table = run.verdicts().to_pylist()
    assert len(table) == len(NAMES) and run.status()["judged"] == len(NAMES)
    assert {row["uri"].rpartition("/")[2] for row in run.inputs().to_pylist()} == set(NAMES)
    for verdict in verdicts:
        theirs = run.image(verdict.image_id[:10])
        assert science(theirs.row()) == science(verdict.row())
        assert np.array_equal(theirs.words[1].vectors, verdict.words[1].vectors)
        for ours, other in zip(verdict.redraws(1), theirs.redraws(1), strict=True):
            assert ours.tobytes() == other.tobytes()
    with pytest.raises(KeyError, match="no image"):
        run.image("x")


def test_verdicts_are_independent_of_the_other_images(
    auditor: originality.Auditor, verdicts: list[originality.Verdict]
) -> None:
    alone = auditor.judge(EXAMPLES / NAMES[1])
    assert timeless(alone.row()) == timeless(verdicts[1].row())


def test_equal_images_are_judged_once_and_bad_ones_are_rows(
    auditor: originality.Auditor, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    image = EXAMPLES / NAMES[0]
    first, second, third, fourth = auditor.judge_many([image, bad, str(image), tmp_path / "nowhere.png"])
    assert first is third and first.status == "judged"
    assert (second.status, fourth.status) == ("rejected", "rejected")
    assert fourth.error is not None and fourth.error.startswith("missing") and not fourth.words
    assert "rejected" in repr(second) and "rejected" in second._repr_html_()


def test_an_image_may_be_judged_while_others_are_under_way(
    auditor: originality.Auditor, verdicts: list[originality.Verdict]
) -> None:
    found = []
    for verdict in auditor.judge_many(EXAMPLES / name for name in NAMES):
        found.append(verdict)
        again = auditor.judge(EXAMPLES / NAMES[-1])
        assert timeless(again.row()) == timeless(verdicts[-1].row())
    assert [timeless(v.row()) for v in found] == [timeless(v.row()) for v in verdicts]


def test_images_of_an_abandoned_call_do_not_share_later_passes(
    auditor: originality.Auditor, verdicts: list[originality.Verdict]
) -> None:
    several = auditor.judge_many(EXAMPLES / name for name in NAMES)
    next(several)
    several.close()
    assert timeless(auditor.judge(EXAMPLES / NAMES[2]).row()) == timeless(verdicts[2].row())


def test_images_from_memory(auditor: originality.Auditor) -> None:
    """One id for the same pixels, however they come; not that of a file."""
    image = Image.open(EXAMPLES / NAMES[0]).convert("RGB")
    grey = np.asarray(image.convert("L"))
    from_image, from_array, from_grey = auditor.judge_many([image, np.asarray(image), grey])
    assert from_image is from_array and from_image.image_id != from_grey.image_id
    with pytest.raises(ValueError, match="float64"):
        auditor.judge(np.zeros((4, 4, 3)))
    with pytest.raises(TypeError, match="int"):
        auditor.judge(3)  # type: ignore[arg-type]


def test_a_photograph_is_turned_upright(auditor: originality.Auditor) -> None:
    image = Image.open(EXAMPLES / NAMES[0]).convert("RGB").crop((0, 0, 40, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    # Private: Auditor._reader, because what the model is shown is seen nowhere else.
    read = auditor._reader.read
    turned, decoded = read(Image.open(buffer))[1], read(buffer.getvalue())[1]
    assert turned.size == (64, 40) and turned.tobytes() == decoded.tobytes()


def test_a_verdict_shows_itself(verdicts: list[originality.Verdict], tmp_path: Path) -> None:
    verdict = verdicts[0]
    assert verdict.image_id[:12] in repr(verdict)
    page = verdict._repr_html_()
    assert page.count("<img") == 1 + len(verdict.redraws(1)) and "<table" in page
    json.dumps(verdict.row())
    word = verdict.words[1]
    word.save(tmp_path / "word.safetensors")
    assert word.vectors.shape[0] == 1 and (tmp_path / "word.safetensors").stat().st_size > 0
    with pytest.raises(ValueError, match="7"):
        verdict.redraws(7)
