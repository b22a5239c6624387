"""Ray clusters for tests, started as a person would, on loopback, with free ports and a token."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray._private.services import node_ip_address_from_perspective
from ray.cluster_utils import Cluster

from tests.support.places import python_path
from tests.support.waiting import PATIENCE, until

# Private: ray._private, because no public call gives the address that Ray would choose for a node; and
# Cluster._wait_for_node, because no public option waits longer for one.

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Head:
    """A head node."""

    gcs: str
    """host:port, for RAY_ADDRESS."""
    dashboard: str
    """URL of the jobs API."""
    environment: dict[str, str]
    """Environment variables of a process that uses it."""
    log: Path
    """What ``ray start`` printed."""
    logs: Path
    """Folder of the logs of Ray and its jobs."""


STARTS = 8
"""Attempts to start Ray: it gives its own processes a fixed 30 s, which may be too short on a busy
machine."""
TOO_SLOW = "timed out during startup"


class Machines(Cluster):
    """Ray's cluster of several nodes on one machine; waits for each node as long as it takes."""

    def add_node(self, *given: Any, **options: Any) -> Any:
        # Without an address they would get that of a Ray in this process, which listens on loopback only.
        options.setdefault("node_ip_address", node_ip_address_from_perspective(None))
        for left in reversed(range(STARTS)):
            try:
                return super().add_node(*given, **options)
            except Exception as error:
                if TOO_SLOW not in str(error) or not left:
                    raise
        raise AssertionError

    def _wait_for_node(self, node: Any, timeout: float = PATIENCE) -> None:
        super()._wait_for_node(node, PATIENCE)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def ray_head(
    folder: Path,
    *,
    cpus: int,
    port: int | None = None,
    extra: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
) -> Iterator[Head]:
    """``ray start --head``, with token authentication; ended with all its processes.

    ``extra``: environment beside the usual; ``options``: of ``ray start``.
    """
    session = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path must be short
    environment = {
        **os.environ,
        "PYTHONPATH": python_path(),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        **(extra or {}),
    }
    log = folder / "ray-head.log"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, session, ignore_errors=True)
        for left in reversed(range(STARTS)):
            gcs, dashboard = port or free_port(), free_port()
            command = [
                *(str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1"),
                *(f"--port={gcs}", f"--num-cpus={cpus}", "--include-dashboard=true"),
                *(f"--temp-dir={session}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
                # Fixed by default, and then one head on a machine has no agent to give jobs to.
                *(f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"),
                *options,
            ]
            address = f"http://127.0.0.1:{dashboard}"
            with _ended(command, environment, log) as head:
                if _is_ready(address, environment["RAY_AUTH_TOKEN"], head, log):
                    logs = session / "session_latest" / "logs"
                    yield Head(f"127.0.0.1:{gcs}", address, environment, log, logs)
                    return
            assert TOO_SLOW in log.read_text() and left, log.read_text()


@contextmanager
def _ended(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A head that is being started; at the end it is ended with all that it started."""
    with log.open("wb") as out:
        head = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        yield head
    finally:
        head.terminate()  # --block: it ends what it started
        with suppress(subprocess.TimeoutExpired):
            head.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)


def requested(url: str, token: str | None) -> int:
    """HTTP status of the jobs API's answer."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{url}/api/jobs/", headers=headers), timeout=60
        ) as answer:
            json.load(answer)
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _is_ready(url: str, token: str, head: subprocess.Popen[bytes], log: Path) -> bool:
    """Waits until a head has started; False where it has ended. Its API may answer before."""

    def happened() -> bool:
        if head.poll() is not None:
            return True
        with suppress(OSError):
            return "Ray runtime started" in log.read_text() and requested(url, token) == 200
        return False

    until(happened, every=0.3)
    return head.poll() is None
