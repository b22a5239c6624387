from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from cluster.ray_runtime import ray_address, runtime, thread
from tests.support.places import ROOT
from tests.support.ray_clusters import ray_head
from tests.support.waiting import PATIENCE, until

NO_PLACE = "/proc/1"
"""Where nobody may make a folder, not even root."""


@pytest.mark.parametrize(
    ("folder", "problem"),
    [
        ("/tmp/" + "long" * 20, "too long a path"),
        ("/tmp/none/of/these", "is not a folder; "),
        (NO_PLACE, "Ray cannot keep"),
        ("tmp", "must be an absolute path"),
        ("", "must be an absolute path"),
    ],
)
@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_temporary_folder_that_ray_cannot_use_is_named(
    folder: str, problem: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, folder)
    with pytest.raises(ray_address.Unusable) as refused:
        ray_address.check(None)
    assert problem in str(refused.value) and f"{name}={folder}" in str(refused.value)


def test_the_longest_temporary_folder_that_fits_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "x" * 200)
    with pytest.raises(ray_address.Unusable) as refused:
        ray_address.check(None)
    most = int(str(refused.value).partition("at most ")[2].split()[0])
    session = f"/ray/session_2026-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
    assert most + len(session) == 107
    link = Path("/tmp", f"originality-{os.getpid()}-".ljust(most - len("/tmp/"), "x"))
    link.symlink_to(tmp_path, target_is_directory=True)
    try:
        monkeypatch.setenv("RAY_TMPDIR", str(link))
        ray_address.check(None)
    finally:
        link.unlink()


ADDRESSES = {
    "http://10.0.0.1:8265": "submit the command there (ray job",
    "https://ray.example": "as ray.example:6379",
    "ray://10.0.0.1:10001": "Ray client",
    "k8s://head": "write host:6379",
    "10.0.0.1": "write host:6379",
    "10.0.0.1:many": "write host:6379",
    "10.0.0.1:99999": "write host:6379",
    "HTTP://10.0.0.1:8265": "dashboard",
    "Ray://10.0.0.1:10001": "Ray client",
    "http:/10.0.0.1:8265": "write host:6379",
    "user@10.0.0.1:6379": "write host:6379",
    "no-such-host.invalid:6379": "cannot reach Ray at RAY_ADDRESS=no-such-host.invalid:6379 (",
    "127.0.0.1:1": "(Connection refused); start the cluster",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_of_no_cluster_is_refused_with_the_fix(address: str) -> None:
    with pytest.raises(ray_address.Unusable) as refused:
        ray_address.check(address)
    assert ADDRESSES[address] in str(refused.value) and address in str(refused.value)
    assert "unset RAY_ADDRESS" in str(refused.value)


@pytest.mark.parametrize("blanks", [" {}", "{}\n", "\t{} "])
def test_blanks_around_an_address_are_dropped(blanks: str) -> None:
    for address in ("http://10.0.0.1:8265", "127.0.0.1:1"):
        with pytest.raises(ray_address.Unusable) as refused:
            ray_address.check(blanks.format(address))
        assert ADDRESSES[address] in str(refused.value) and f"RAY_ADDRESS={address} " in str(refused.value)


@pytest.mark.parametrize(("given", "meant"), [(" h:6379\n", "h:6379"), (" local ", "None"), ("auto", "auto")])
def test_ray_sees_an_address_without_blanks(given: str, meant: str) -> None:
    code = "import os, cluster; print(os.environ.get('RAY_ADDRESS'))"
    environment = {**os.environ, "RAY_ADDRESS": given}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=-1, text=True)
    assert done.stdout == f"{meant}\n"


def test_a_port_with_a_different_service_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_address, "ANSWER_SECONDS", 1.0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(ray_address.Unusable, match=r"RAY_ADDRESS=127\.0\.0\.1:\d+ "):
            ray_address.check(f"127.0.0.1:{server.server_port}")
        server.shutdown()


def test_a_proxy_of_the_environment_does_not_stand_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray uses none either. Nothing listens at these addresses."""
    monkeypatch.setattr(ray_address, "ANSWER_SECONDS", PATIENCE)
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_grpc_proxy", "no_proxy", "RAY_USE_TLS"):
        monkeypatch.delenv(name, raising=False)
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        ray_address.check(f"127.0.0.1:{port}")
    finally:
        server.stop(None).wait()


JOIN = """
import ray
from cluster.ray_runtime.runtime import ray_running
from jobs.commandline.exits import run
{before}
def job():
    with ray_running():
        return 0
raise SystemExit(run(job))
"""


@pytest.mark.long
def test_a_different_ray_version_or_token_is_an_error_of_one_line(tmp_path: Path) -> None:
    with ray_head(tmp_path, cpus=1) as head:
        way = {**head.environment, "RAY_ADDRESS": head.gcs}
        cases = {
            "": (way, 0, ""),
            "ray.__version__ = '2.1.0'": (way, 2, "Version mismatch: The cluster was started with"),
            "token = 'another'": ({**way, "RAY_AUTH_TOKEN": "0" * 64}, 2, ""),
        }
        for before, (environment, code, problem) in cases.items():
            done = subprocess.run(
                [sys.executable, "-c", JOIN.format(before=before)],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            assert done.returncode == code, done.stderr
            if code:
                (line,) = (line for line in done.stderr.splitlines() if line.startswith("originality: "))
                assert f"cannot use Ray at RAY_ADDRESS={head.gcs} (" in line and problem in line
                assert "Traceback" not in done.stderr, done.stderr


def test_ray_starts_where_home_cannot_be_written(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": NO_PLACE}
    environment.pop("RAY_AUTH_TOKEN", None)
    done = subprocess.run(
        [sys.executable, "-c", JOIN.format(before="")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cluster_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a head that needs a different token: Ray retries for a quarter of an hour."""
    answers = threading.Event()
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setattr(runtime, "START_SECONDS", 0.05)
    monkeypatch.setattr(runtime, "check_ray", lambda: None)
    monkeypatch.setattr(runtime.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(runtime.ray, "init", lambda **options: answers.wait(PATIENCE))
    monkeypatch.setattr(thread, "shut_down", lambda: None)
    with (
        pytest.raises(runtime.Refused, match=r"RAY_ADDRESS=head:6379 \(no answer in 0\.05 s; RAY_AUTH_TOKEN"),
        runtime.ray_running(),
    ):
        pass
    assert thread.is_unfinished()  # so that the process ends on the spot, and not by Ray's way out
    answers.set()
    until(lambda: not thread.is_unfinished())
