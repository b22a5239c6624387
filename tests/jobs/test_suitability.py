"""Photographs, art and scans with the model that ships, which knows only drawings of shapes."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import skimage.data
from PIL import Image, ImageDraw

from cluster.inputs.manifest import Selection
from jobs.auditing.audit_run import audit, plan_audit, unsuited
from jobs.auditing.prepare import PreparedAudit
from jobs.auditing.suitability import is_drawing
from jobs.cli import main
from jobs.commandline import exits
from originality.settings.presets import load_settings
from originality.shapes.drawing import draw
from originality.shapes.image_sets import UniformSet
from tests.support.mean_colour import MeanColour, paint
from tests.support.places import EXAMPLES

PHOTOS = Path(skimage.data.__file__).parent
OTHERS = (
    *("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"),
    *("retina.jpg", "hubble_deep_field.jpg", "text.png", "page.png", "horse.png", "logo.png", "moon.png"),
)


def screenshot() -> Image.Image:
    """A white page of text below a blue bar."""
    page = Image.new("RGB", (800, 600), "white")
    pen = ImageDraw.Draw(page)
    pen.rectangle((0, 0, 800, 40), fill=(40, 90, 205))
    for top in range(60, 580, 16):
        pen.text(
            (40, top), "The quick brown fox jumps over the lazy dog, again and again. " * 2, fill="black"
        )
    return page


def test_photographs_and_scans_are_not_taken_for_drawings() -> None:
    taken = [name for name in OTHERS if is_drawing(Image.open(PHOTOS / name))]
    assert taken == [] and not is_drawing(screenshot())


def encoded(image: Image.Image, side: int, kind: str, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.resize((side, side), Image.Resampling.LANCZOS).save(data, kind, quality=quality)
    return Image.open(data)


def test_drawings_of_shapes_are_taken_in_every_size_and_format() -> None:
    drawn = [Image.open(file).convert("RGB") for file in sorted(EXAMPLES.glob("*.png"))]
    drawn += [draw(UniformSet().scene(0, number).placed) for number in range(20)]
    ways = [(64, "PNG", 0), (64, "JPEG", 40), (300, "JPEG", 90), (512, "WEBP", 60)]
    refused = [
        (n, *way) for n, image in enumerate(drawn) for way in ways if not is_drawing(encoded(image, *way))
    ]
    assert refused == []
    assert is_drawing(Image.new("L", (10, 10), 255))


@pytest.mark.long
def test_the_command_warns_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "my photos"
    photos.mkdir()
    for name in ("chelsea.png", "rocket.jpg"):
        shutil.copy(PHOTOS / name, photos)
    commands = (["audit", str(photos), "--dry-run"], ["estimate", str(photos), "--predict"])
    for command in commands:
        assert main(command) == exits.ALL_JUDGED
        first, *_ = capsys.readouterr().err.splitlines()
        assert " WARNING " in first and "2 of 2" in first
        assert f"originality audit '{photos}' " in first and "--preset fast --domain" in first
        assert main([*command, "--preset", "fast", "--domain", "people"]) == exits.ALL_JUDGED
        assert "WARNING" not in capsys.readouterr().err
    assert main(["audit", str(EXAMPLES), "--dry-run"]) == exits.ALL_JUDGED
    assert "WARNING" not in capsys.readouterr().err


def test_summary_and_report_contain_the_warning(
    tmp_path: Path, local_ray: None, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        paint(tmp_path / "in", f"{number}.png", (90, 90 + number, 90))
    shutil.copy(next(EXAMPLES.glob("*.png")), tmp_path / "in")
    science = PreparedAudit(load_settings(), MeanColour, {})
    assert audit(science, str(tmp_path / "in"), str(tmp_path / "run")) == exits.ALL_JUDGED
    assert "3 of 4 sampled images" in caplog.text
    caplog.clear()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["unsuited"] == {"sampled": 4, "others": 3}
    assert audit(science, str(tmp_path / "in"), str(tmp_path / "run")) == exits.ALL_JUDGED
    assert "sampled images" not in caplog.text, "nothing is left to judge, so none is looked at"
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["unsuited"] == summary["unsuited"]
    assert main(["report", str(tmp_path / "run")]) == exits.ALL_JUDGED
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "3 of 4 sampled images" in page


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"unsuited": 3}', '{"unsuited": {"photos": 1}}'])
def test_a_damaged_summary_stops_no_audit(tmp_path: Path, damage: str) -> None:
    """Neither does a summary of a different version."""
    (tmp_path / "in").mkdir()
    shutil.copy(next(EXAMPLES.glob("*.png")), tmp_path / "in")
    science = PreparedAudit(load_settings(), MeanColour, {})
    run = plan_audit(science, str(tmp_path / "in"), str(tmp_path / "run"))
    (tmp_path / "run" / "summary.json").write_text(damage)
    assert unsuited(science, run, Selection()) is None


def test_an_interrupt_while_images_are_sampled_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    paint(tmp_path / "in", "a.png", (1, 2, 3))
    monkeypatch.setattr("jobs.auditing.audit_run.warn", interrupted)
    out = tmp_path / "out"
    assert main(["audit", str(tmp_path / "in"), "--out", str(out)]) == exits.INTERRUPTED
    assert not out.exists()
