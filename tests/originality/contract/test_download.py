"""One file over a real connection, from a host that misbehaves."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from originality.contract import node_cache
from originality.contract.config import SettingsError
from originality.contract.download import Download, FetchError
from originality.contract.faults import is_machine_fault
from originality.contract.transfer_progress import Progress
from tests.support.waiting import PATIENCE

DATA = os.urandom(3_000_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


class Host:
    """Answers a request by the next of its orders; with the file when there are none left."""

    def __init__(self) -> None:
        self.orders: list[object] = []
        """A status, "page", "hang up", "wrong", "huge", a URL to redirect to, or where to break off."""
        self.requested: list[tuple[str, str]] = []
        """Range and credentials of each request."""
        self.tag = '"1"'

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range", "")
        self.requested.append((wanted, request.headers.get("Authorization", "")))
        order = self.orders.pop(0) if self.orders else None
        request.close_connection = True
        if order == "hang up":
            return
        if isinstance(order, int) and order < 1000:
            request.send_error(order)
            return
        data = b"<html>Log in first</html>" if order == "page" else DATA
        data = DATA[:-1] + bytes([DATA[-1] ^ 1]) if order == "wrong" else data
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if start >= len(data):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(data)}")
            request.end_headers()
            return
        if isinstance(order, str) and order.startswith("http"):
            request.send_response(302)
            request.send_header("Location", order)
        else:
            request.send_response(206 if start else 200)
        if order == "page":
            request.send_header("Content-Type", "text/html; charset=utf-8")
        request.send_header("ETag", self.tag)
        request.send_header("Content-Length", str(10**16 if order == "huge" else len(data) - start))
        request.end_headers()
        request.wfile.write(data[start : order if isinstance(order, int) else None])


@contextmanager
def serving(host: Host) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/w.safetensors"
        server.shutdown()


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def url(host: Host) -> Iterator[str]:
    with serving(host) as url:
        yield url


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """What was waited for, in place of waiting."""
    monkeypatch.setenv("ORIGINALITY_CACHE", str(tmp_path / "cache"))
    return []


def bring(url: str, folder: Path, pauses: list[float], **more: object) -> tuple[bytes, list[str]]:
    """The file, and what was told."""
    messages: list[str] = []
    with Progress("w", report=messages.append) as progress:
        Download(url, folder / "in" / "w", folder, sleep=pauses.append, **more).fetch(progress)  # type: ignore[arg-type]
    assert {file.name for file in folder.iterdir() if file.is_file()} == set(), "no part stays"
    return (folder / "in" / "w").read_bytes(), messages


def test_a_file_is_complete_and_its_checksum_is_remembered(
    url: str, host: Host, pauses: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, messages = bring(url, tmp_path, pauses, size=len(DATA), sha256=DIGEST)
    assert data == DATA and host.requested == [("", "")] and not pauses
    assert messages[0] == "fetching w" and messages[-1].startswith("w: 3 MB in ")
    monkeypatch.setattr(node_cache, "known_digests", {})
    monkeypatch.setattr(node_cache, "computed_digest", None)  # it is not read again
    assert node_cache.sha256(tmp_path / "in" / "w") == DIGEST


def test_a_passing_error_is_retried_after_a_pause(
    url: str, host: Host, pauses: list[float], tmp_path: Path
) -> None:
    host.orders = [503, "hang up", 429]
    data, messages = bring(url, tmp_path, pauses)
    assert data == DATA and pauses == [1, 2, 4]
    assert any(url in line and "503" in line for line in messages)


@pytest.mark.parametrize("given", ["nan", "inf", "-1", "soon"])
def test_an_invalid_patience_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("FETCH_PATIENCE_SECONDS", given)
    download = Download("http://127.0.0.1:1/weights", tmp_path / "weights", tmp_path)
    with pytest.raises(SettingsError, match=f"FETCH_PATIENCE_SECONDS is '{given}'; write a number of sec"):
        download.fetch(Progress("weights", report=lambda _: None))


def test_a_broken_download_resumes_and_progress_renews_the_patience(
    url: str, host: Host, pauses: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETCH_PATIENCE_SECONDS", "1")
    cuts = [1_000_000, 2_000_000, 2_500_000]
    host.orders = list(cuts)
    assert bring(url, tmp_path, pauses)[0] == DATA
    assert [wanted for wanted, _ in host.requested] == ["", *(f"bytes={cut}-" for cut in cuts)]
    assert pauses == [1, 1, 1]


@pytest.mark.parametrize("more", [b"", b"of another version"], ids=["complete", "too long"])
def test_an_incomplete_file_may_be_complete_or_too_long(
    more: bytes, url: str, host: Host, pauses: list[float], tmp_path: Path
) -> None:
    """A complete file is taken as it is; what is longer than the host's file is fetched from the start."""
    Download(url, tmp_path / "in" / "w", tmp_path).part.write_bytes(DATA + more)
    data, messages = bring(url, tmp_path, pauses, sha256=DIGEST)
    assert data == DATA
    assert [wanted for wanted, _ in host.requested] == [f"bytes={len(DATA + more)}-", *([""] if more else [])]
    assert pauses == ([1] if more else [])
    assert any("too long" in line for line in messages) == bool(more)


@pytest.mark.parametrize(
    ("orders", "output", "tries"),
    [
        ([404], "HTTP Error 404", 1),
        ([403], "HTTP Error 403", 1),
        ([503] * 9, "HTTP Error 503", 6),
        (["page"], "127.0.0.1:.* a web page", 1),
        (["wrong", "wrong"], "not the published file", 2),
        (["huge"], "10000000.0 GB, .* ORIGINALITY_CACHE", 1),
    ],
    ids=["404", "403", "503 without end", "a page", "wrong twice", "no room"],
)
def test_a_failed_download_is_a_machine_fault_in_one_line(
    orders: list[object], output: str, tries: int, url: str, host: Host, pauses: list[float], tmp_path: Path
) -> None:
    host.orders = orders
    with pytest.raises(FetchError, match=output) as caught:
        bring(url, tmp_path, pauses, sha256=DIGEST)
    assert "\n" not in str(caught.value) and is_machine_fault(caught.value)
    assert len(host.requested) == tries and not (tmp_path / "in").exists()


def test_a_wrong_file_is_fetched_again_once(
    url: str, host: Host, pauses: list[float], tmp_path: Path
) -> None:
    host.orders = ["wrong"]
    data, messages = bring(url, tmp_path, pauses, sha256=DIGEST)
    assert data == DATA and any(line.startswith("w.safetensors: not the published") for line in messages)


def test_a_host_that_does_not_answer(pauses: list[float], tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"http://127\.0\.0\.1:9/w: .*Connection refused"):
        bring("http://127.0.0.1:9/w", tmp_path, pauses)
    assert pauses == [1, 2, 4, 8, 15]


def test_credentials_are_not_sent_to_a_redirect(
    url: str, host: Host, pauses: list[float], tmp_path: Path
) -> None:
    other = Host()
    with serving(other) as elsewhere:
        host.orders = [url, elsewhere]
        data, _ = bring(url, tmp_path, pauses, headers={"Authorization": "Bearer secret"})
    assert data == DATA
    assert [secret for _, secret in host.requested] == ["Bearer secret"] * 2 and other.requested == [("", "")]


def test_a_full_disk_is_reported_in_one_line(url: str, host: Host, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the system refuses to write in the middle."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom originality.contract.download import *\n"
        "with Progress('w') as p: Download(sys.argv[1], Path('w'), Path('.')).fetch(p)"
    )

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "ORIGINALITY_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, url],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=limited,
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("originality.contract.download.FetchError:"), done.stderr
    assert "(File too large)" in last and "ORIGINALITY_CACHE" in last


def test_processes_never_share_a_folder_of_incomplete_files(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom originality.contract.download import scratch_in\n"
        "for _ in range(50):\n"
        "  with scratch_in(Path(sys.argv[1]), 'w') as scratch: (scratch / 'mine').open('x').close()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, tmp_path]
    racers = [subprocess.Popen(command, env=environment, stderr=-1, text=True) for _ in range(4)]
    output = [racer.communicate(timeout=PATIENCE)[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4, output
    assert not (tmp_path / ".fetch").exists()
