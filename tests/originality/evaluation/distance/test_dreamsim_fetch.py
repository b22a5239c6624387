"""DreamSim's weights over a real connection, to a server that misbehaves."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from jobs.cli import main
from jobs.commandline import exits
from originality.contract.config import SettingsError
from originality.contract.download import PATIENCE, Download, FetchError
from originality.contract.node_cache import sha256
from originality.evaluation.distance import load_distance
from originality.evaluation.distance.dreamsim import DreamSim, digest_without_loading
from originality.evaluation.distance.dreamsim_fetch import (
    CODE_FILES,
    DINO_CODE,
    DINO_HEAD,
    PUBLISHED,
    Sources,
    fetch,
)
from originality.evaluation.distance.dreamsim_weights import BRANCHES, DIGESTS, DINO, cache_folder, files_of
from originality.settings.parts import DistanceSettings
from tests.support.dreamsim_standin import Published, package_distances, serving

ZIP = "dreamsim_clip_vitb32_checkpoint.zip"
CLIP = "clip_vitb32_pretrain.pth.tar"


@pytest.fixture(autouse=True)
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a host that is down; this machine's cache is the test's own."""
    monkeypatch.setenv(PATIENCE, "0")
    monkeypatch.setenv("ORIGINALITY_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def published(tiny_folder: Path) -> Published:
    return Published(tiny_folder, ("ensemble", "clip_vitb32"))


@pytest.fixture
def url(published: Published) -> Iterator[str]:
    with serving(published) as url:
        yield url


@pytest.fixture
def sources(url: str) -> Sources:
    return Sources.mirrored(url)


def names(folder: Path) -> set[str]:
    return {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}


def test_addresses_are_the_package_s() -> None:
    from dreamsim.config import dreamsim_weights

    for branch in BRANCHES:
        assert PUBLISHED.archives.format(branch=branch) == dreamsim_weights[branch]


def test_a_folder_for_us_and_for_the_package(
    url: str, published: Published, tmp_path: Path, tiny_folder: Path, pictures: np.ndarray
) -> None:
    to = tmp_path / "new" / "folder"
    assert main(["models", "fetch", "dreamsim", "--to", str(to), "--mirror", url]) == exits.ALL_JUDGED
    ours, code = files_of(to, "ensemble"), {f"{DINO_CODE}/{name}" for name in CODE_FILES}
    assert names(to) == {f.relative_to(to).as_posix() for f in ours} | code | {DINO_HEAD, DIGESTS}
    assert not (tmp_path / "new" / "escaped").exists()
    digests = json.loads((to / DIGESTS).read_text())
    assert digests == {name: sha256(to / name) for name in names(to) - {DIGESTS}}
    metric = load_distance(DistanceSettings(folder=str(to)))
    embedded = metric.embed(pictures)
    assert metric.digest() == DreamSim(tiny_folder).digest()
    theirs = package_distances(to, "ensemble", pictures)
    np.testing.assert_allclose(metric.between(embedded[0], embedded), theirs, atol=2e-6)
    requested = list(published.requested)
    assert len(requested) == 3
    assert main(["models", "fetch", "dreamsim", "--to", str(to), "--mirror", url]) == exits.ALL_JUDGED
    assert published.requested == requested


def test_progress_is_reported(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "models",
        "fetch",
        "dreamsim",
        "--branch",
        "clip_vitb32",
        "--to",
        str(tmp_path),
        "--mirror",
        url,
    ]
    assert main(command) == exits.ALL_JUDGED
    output = capsys.readouterr()
    first, *_, last = output.err.splitlines()
    assert first == f"fetching {ZIP} of DreamSim from {url.removeprefix('http://')}"
    assert f"--set distance.folder={tmp_path}" in last
    assert output.out == f"{tmp_path}\n"


def test_two_branches_share_a_folder(sources: Sources, published: Published, tmp_path: Path) -> None:
    for branch in ("ensemble", "clip_vitb32"):
        fetch(tmp_path, branch, sources, package=True)
    requested = len(published.requested)
    for branch in ("ensemble", "clip_vitb32"):
        fetch(tmp_path, branch, sources, package=True)
        files_of(tmp_path, branch)
    assert len(published.requested) == requested


def test_an_interrupted_download_is_resumed(sources: Sources, published: Published, tmp_path: Path) -> None:
    size = len(published.files[ZIP])
    for cut in (1000, size - 10):
        published.faults[ZIP] = cut
        with pytest.raises(FetchError, match=f"{ZIP}: the connection ended after {cut} of {size} bytes"):
            fetch(tmp_path, "clip_vitb32", sources)
        assert not names(tmp_path) & {DIGESTS, CLIP}
    fetch(tmp_path, "clip_vitb32", sources)
    assert published.requested == [(ZIP, ""), (ZIP, "bytes=1000-"), (ZIP, f"bytes={size - 10}-")]
    assert sha256(tmp_path / CLIP) and not (tmp_path / ".fetch").exists()
    DreamSim(tmp_path, "clip_vitb32")


@pytest.mark.parametrize("tag", ['"2"', ""])
def test_parts_of_two_files_are_never_mixed(
    tag: str, sources: Sources, published: Published, tmp_path: Path, tiny_folder: Path
) -> None:
    whole = published.files[ZIP]
    published.files[ZIP], published.faults[ZIP] = bytes(len(whole)), 5000
    published.tags[ZIP] = '"1"' if tag else ""
    with pytest.raises(FetchError):
        fetch(tmp_path, "clip_vitb32", sources)
    published.files[ZIP], published.tags[ZIP] = whole, tag
    fetch(tmp_path, "clip_vitb32", sources)
    assert (tmp_path / CLIP).read_bytes() == (tiny_folder / CLIP).read_bytes()


def test_a_complete_download_is_not_repeated(sources: Sources, published: Published, tmp_path: Path) -> None:
    scratch = tmp_path / ".fetch"
    scratch.mkdir()
    part = Download(sources.archives.format(branch="clip_vitb32"), tmp_path, scratch).part
    part.write_bytes(published.files[ZIP])
    part.with_name(f"{part.name}.tag").write_text('"1"')
    fetch(tmp_path, "clip_vitb32", sources)
    assert published.requested == [(ZIP, f"bytes={len(published.files[ZIP])}-")]


@pytest.mark.parametrize(
    ("fault", "output"),
    [
        (404, "HTTP Error 404"),
        (403, "HTTP Error 403"),
        (503, "HTTP Error 503"),
        ("hang up", "closed connection|reset by peer"),
        (77, "ended after 77 of"),
    ],
)
@pytest.mark.parametrize(
    "name", [ZIP.replace("clip_vitb32", "ensemble"), DINO.rpartition("/")[2], "dino.zip"]
)
def test_a_refused_download_is_an_error_of_one_line(
    name: str, fault: str | int, output: str, sources: Sources, published: Published, tmp_path: Path
) -> None:
    published.faults[name] = fault
    with pytest.raises(
        SettingsError if fault == 404 else FetchError,
        match=f"http://127.*{name}: .*({output}).*s3://.*distance.folder",
    ) as caught:
        fetch(tmp_path, "ensemble", sources, package=True)
    assert "\n" not in str(caught.value)
    fetch(tmp_path, "ensemble", sources, package=True)
    assert len(published.requested) == 4, "what was whole is not fetched again"


def test_a_host_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = ["models", "fetch", "dreamsim", "--to", str(tmp_path), "--mirror", away]
    assert main(command) == exits.ENGINE_FAILED
    line = capsys.readouterr().err.splitlines()[-1]
    assert "Connection refused" in line
    command[-1] = "nonsense"
    assert main(command) == exits.BAD_SETTINGS
    assert "unknown url type" in capsys.readouterr().err


def test_temporary_errors_are_retried(
    sources: Sources, published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE, "2")
    messages: list[str] = []
    published.faults[ZIP] = 503
    fetch(tmp_path, "clip_vitb32", sources, tell=messages.append)
    assert len(published.requested) == 2 and any(
        "HTTP Error 503" in line and "retrying" in line for line in messages
    )


def test_a_destination_that_cannot_be_written(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FetchError, match=r"could not be downloaded to .*file"):
        fetch(tmp_path / "file", "clip_vitb32", sources)


@pytest.mark.parametrize("harm", ["flip", "no archive", "lacks"])
def test_a_damaged_archive_is_thrown_away(
    harm: str, sources: Sources, published: Published, tmp_path: Path
) -> None:
    whole = published.files[ZIP]
    at = whole.index(b"\x80") + 5000  # within the weights
    damaged = {
        "flip": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
        "no archive": b"<html>Please log in</html>",
        "lacks": published.files["dino.zip"],
    }
    published.files[ZIP] = damaged[harm]
    output = r"is damaged: |a web page|lack clip_vitb32"
    with pytest.raises(SettingsError if harm == "lacks" else FetchError, match=output):
        fetch(tmp_path, "clip_vitb32", sources)
    published.files[ZIP] = whole
    fetch(tmp_path, "clip_vitb32", sources)
    assert published.requested == [(ZIP, "")] * 2
    DreamSim(tmp_path, "clip_vitb32")


@pytest.mark.parametrize("name", [CLIP, "clip_vitb32_single_lora/adapter_config.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_file_is_refused_and_fetched_again(
    name: str, harm: str, sources: Sources, published: Published, tmp_path: Path
) -> None:
    fetch(tmp_path, "clip_vitb32", sources)
    file = tmp_path / name
    whole = file.read_bytes()
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(whole[:-1] + (bytes([whole[-1] ^ 1]) if harm == "flip" else b""))
    settings = DistanceSettings(folder=str(tmp_path), branch="clip_vitb32", threshold=0.4)
    output = r"originality models fetch dreamsim --branch clip_vitb32"
    with pytest.raises(SettingsError, match=output) as caught:
        load_distance(settings)
    assert name in str(caught.value) and "\n" not in str(caught.value)
    fetch(tmp_path, "clip_vitb32", sources)
    assert file.read_bytes() == whole and len(published.requested) == 2
    load_distance(settings)


def test_damaged_digests(sources: Sources, tmp_path: Path) -> None:
    fetch(tmp_path, "clip_vitb32", sources)
    (tmp_path / DIGESTS).write_text("{")
    with pytest.raises(SettingsError, match="digests"):
        DreamSim(tmp_path, "clip_vitb32")
    fetch(tmp_path, "clip_vitb32", sources)
    DreamSim(tmp_path, "clip_vitb32")


def test_only_one_of_many_processes_downloads(sources: Sources, published: Published, tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: fetch(tmp_path, "clip_vitb32", sources), range(6)))
    assert published.requested == [(ZIP, "")]


def test_the_default_folder_is_filled_once_and_then_only_read(
    sources: Sources, tmp_path: Path, tiny_folder: Path
) -> None:
    folder = fetch(cache_folder(), sources=sources)
    assert folder == tmp_path / "cache" / "dreamsim"
    assert names(folder) == {f.relative_to(folder).as_posix() for f in files_of(folder, "ensemble")} | {
        DIGESTS
    }
    before = sorted((f, f.stat().st_mtime_ns) for f in folder.rglob("*"))
    refused = Sources.mirrored("http://127.0.0.1:9")
    fetch(cache_folder(), sources=refused)
    assert load_distance(DistanceSettings()).digest() == DreamSim(tiny_folder).digest()
    assert sorted((f, f.stat().st_mtime_ns) for f in folder.rglob("*")) == before


def test_a_folder_filled_by_the_dreamsim_package_is_used(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    shutil.copytree(tiny_folder, folder)
    refused = Sources.mirrored("http://127.0.0.1:9")
    assert fetch(folder, "ensemble", refused) == folder
    with pytest.raises(FetchError, match="could not be downloaded"):
        fetch(folder, "ensemble", refused, package=True)  # nobody knows whether its files are whole


def test_by_way_of_a_bucket(
    url: str,
    published: Published,
    s3: str,
    tmp_path: Path,
    pictures: np.ndarray,
    tiny_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from cluster.storage.store import StoreError, open_store
    from jobs.auditing.weights_here import copies_here
    from originality.settings.audit import AuditSettings
    from originality.settings.parts import InDistributionSettings

    prefix = f"{s3}/dreamsim-{os.getpid()}"
    distance = DistanceSettings(folder=prefix, branch="clip_vitb32", threshold=0.4)
    unchecked = InDistributionSettings(check="none")
    settings = AuditSettings(domain="houses", distance=distance, in_distribution=unchecked)
    with pytest.raises(SettingsError, match=rf"{prefix} .*models fetch dreamsim"):
        copies_here(settings)
    command = ["models", "fetch", "dreamsim", "--branch", "clip_vitb32", "--to", prefix, "--mirror", url]
    assert main(command) == exits.ALL_JUDGED
    capsys.readouterr()
    assert main(command) == exits.ALL_JUDGED
    assert "sending" not in capsys.readouterr().err, "what is there is not sent again"
    open_store(prefix).write("clip_vitb32_single_lora/run.py", b"not wanted")
    head = copies_here(settings, outlined=True).distance
    assert head is not None and not (head / CLIP).exists()
    assert digest_without_loading(head, "clip_vitb32") == DreamSim(tiny_folder, "clip_vitb32").digest()
    copies = copies_here(settings)
    assert copies.model is None and copies.distance is not None
    metric = load_distance(distance, folder=copies.distance)
    assert metric.digest() == DreamSim(tiny_folder, "clip_vitb32").digest()
    assert names(copies.distance) == {
        f.relative_to(tiny_folder).as_posix() for f in files_of(tiny_folder, "clip_vitb32")
    } | {DIGESTS}
    open_store(prefix).write(CLIP, b"another file")
    with pytest.raises(StoreError, match="digests"):
        copies_here(settings)
    assert main(command) == exits.ALL_JUDGED
    assert copies_here(settings).distance is not None
