from __future__ import annotations

from pathlib import Path

import pytest
from mean_colour import paint

from cluster import source_check
from cluster.source_check import SourceCheck, SourceGone
from cluster.store import Refused, open_store


def test_a_folder_that_is_gone_or_empty_is_no_images_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_check, "_REST_SECONDS", 0.0)
    folder = tmp_path / "in"
    check = SourceCheck(str(folder))
    path = paint(folder, "a.png", (1, 1, 1))
    check.check()
    path.unlink()
    with pytest.raises(SourceGone, match=r"in is empty on .*mount or bring it back"):
        check.check()
    folder.rmdir()
    with pytest.raises(SourceGone, match="in does not exist on "):
        check.check()
    (tmp_path / "in").write_text("a file")
    with pytest.raises(SourceGone):
        check.check()
    SourceCheck("").check()  # of a list, whose images lie anywhere


def test_a_source_that_was_there_is_not_listed_for_each_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    monkeypatch.setattr(source_check, "_why_gone", lambda source: looks.append(source) or "")
    check = SourceCheck(str(tmp_path))
    for _ in range(100):
        check.check()
    assert 1 <= len(looks) < 100


def test_a_prefix_or_bucket_that_is_gone(s3: str) -> None:
    open_store(f"{s3}/source-check").write("a.png", b"x")
    SourceCheck(f"{s3}/source-check").check()
    with pytest.raises(SourceGone, match="source-check-moved is empty on "):
        SourceCheck(f"{s3}/source-check-moved").check()
    with pytest.raises((Refused, SourceGone)):
        SourceCheck("s3://originality-no-such-bucket/in").check()
