"""A Ray that a run starts by itself: who can connect to it, and how its start is interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import grpc
import psutil
import pytest
import ray

from cluster.ray_runtime import runtime
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE, until

LISTENERS = """
import json, os, sys
import psutil, ray
from cluster.ray_runtime.runtime import ray_running

@ray.remote
class Worker:
    def ready(self):
        return True

with ray_running():
    worker = Worker.remote()
    ray.get(worker.ready.remote())
    me = psutil.Process()
    found = [
        [process.name(), *connection.laddr]
        for process in (me, *me.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN or not connection.raddr
    ]
    told = ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"], found
    print(json.dumps(told), flush=True)
    sys.stdin.read()
"""


def answer(address: str, token: str | None) -> grpc.StatusCode:
    """The status with which Ray's GCS answers a request for its nodes."""
    proof = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
        try:
            ask(b"", metadata=proof, timeout=PATIENCE)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def without_token(home: Path) -> dict[str, str]:
    """The environment of a different user on this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "HOME": str(home)}


@pytest.mark.long
@pytest.mark.parametrize("mode", [None, "disabled"])
def test_a_local_ray_listens_on_loopback_only_and_requires_its_token(
    mode: str | None, tmp_path: Path
) -> None:
    """Also if the environment disables tokens, as it may for a cluster elsewhere."""
    environment = without_token(tmp_path) | ({"RAY_AUTH_MODE": mode} if mode else {})
    with subprocess.Popen(
        [sys.executable, "-c", LISTENERS],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdin and run.stdout
        address, token, listeners = json.loads(run.stdout.readline())
        assert {"gcs_server", "raylet"} <= {name for name, _, _ in listeners}
        strangers = [found for found in listeners if found[1].removeprefix("::ffff:") != "127.0.0.1"]
        assert not strangers
        assert answer(address, token) == grpc.StatusCode.OK
        assert answer(address, None) == answer(address, "0" * 64) == grpc.StatusCode.UNAUTHENTICATED
        run.stdin.close()
        assert run.wait(PATIENCE) == 0


class Rays:
    """Replaces Ray, and counts how often it is started and shut down."""

    def __init__(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        context = SimpleNamespace(gcs_address=address)
        monkeypatch.setattr(ray, "init", lambda **how: self.calls.append("init"))
        monkeypatch.setattr(ray, "shutdown", lambda: self.calls.append("shutdown"))
        monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)


def test_a_ray_that_cannot_be_restricted_to_loopback_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    rays = Rays("127.0.0.1:6379", monkeypatch)
    monkeypatch.delattr(runtime.ray_constants, "ENABLE_RAY_CLUSTER")
    with pytest.raises(runtime.Refused, match=f"Ray {ray.__version__} cannot be kept"):
        runtime.start_ray(threading.Event())
    assert "init" not in rays.calls


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "[::1]:6379", "localhost:6379"])
def test_a_ray_on_loopback_is_used(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rays = Rays(address, monkeypatch)
    runtime.start_ray(threading.Event())
    assert rays.calls == ["init"]


@pytest.mark.parametrize("address", ["10.0.0.7:6379", "[fd00::7]:6379", "node:6379"])
def test_a_ray_that_listens_beyond_loopback_is_shut_down(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rays = Rays(address, monkeypatch)
    with pytest.raises(runtime.Refused, match=re.escape(f"listens at {address}")):
        runtime.start_ray(threading.Event())
    assert rays.calls == ["init", "shutdown"]


STARTING = """
from jobs.commandline import process
process.begin()
from cluster.ray_runtime.runtime import ray_running
from jobs.commandline import exits

def job():
    with ray_running():
        return 0

raise SystemExit(exits.run(job))
"""

TERM, INT = signal.SIGTERM, signal.SIGINT


def children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


@pytest.mark.parametrize(
    "signals",
    [
        (TERM,),
        *(
            pytest.param(several, marks=pytest.mark.long)
            for several in ((TERM, INT), (TERM, TERM), (INT, TERM), (INT, INT), (TERM, TERM, INT, INT))
        ),
    ],
    ids=lambda signals: " ".join(number.name for number in signals),
)
def test_signals_while_ray_starts_end_in_a_line_and_a_code(signals: tuple[signal.Signals, ...]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTING], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as run:
        until(lambda: any(child.name() == "gcs_server" for child in children(run.pid)), run, every=0.005)
        started = children(run.pid)
        for number in signals:
            run.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                run.wait(0.05)  # else two of a kind become one before they are seen
        _, errors = run.communicate(timeout=PATIENCE)
    assert run.returncode == 130, errors
    assert errors.startswith("originality: interrupted; ") and errors.count("\n") == 1
    until(lambda: not any(child.is_running() and child.status() != "zombie" for child in started))
