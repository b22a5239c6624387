"""A real S3 gateway for tests: SeaweedFS, on loopback, with a secret."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cluster.store import StoreError, open_store

BUCKET = "test"


def _free_ports(count: int) -> list[int]:
    """Ports in a row of which each is free, and 10,000 above it too: SeaweedFS opens both."""
    while True:
        first = random.randrange(20_000, 45_000)
        with ExitStack() as held:
            try:
                for port in range(first, first + count):
                    for number in (port, port + 10_000):
                        held.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except OSError:
                continue
            return list(range(first, first + count))


@contextmanager
def seaweed(folder: Path) -> Iterator[dict[str, str]]:
    """A running gateway with an empty bucket; the environment that leads to it, as AWS's tools read it."""
    s3, master, volume, filer, admin = _free_ports(5)
    keys = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "not-a-real-secret"}
    command = [
        str(Path(sys.executable).parent / "weed"),
        f"-logdir={folder}",
        "mini",
        f"-dir={folder}",
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={s3}", f"-master.port={master}"),
        *(f"-volume.port={volume}", f"-filer.port={filer}", f"-admin.port={admin}"),
        *("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        f"-bucket={BUCKET}",
    ]
    endpoint = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}", "AWS_DEFAULT_REGION": "us-east-1"}
    with (folder / "weed.log").open("wb") as log:
        server = subprocess.Popen(command, env={**os.environ, **keys}, stdout=log, stderr=log)
        try:
            _wait_for(s3, server)
            yield {**keys, **endpoint}
        finally:
            server.terminate()
            server.wait(20)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 60
    while True:
        assert server.poll() is None and time.monotonic() < give_up
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)


def wait_for_bucket(url: str) -> None:
    """The gateway answers a little before its bucket is there."""
    give_up = time.monotonic() + 30
    while True:
        try:
            open_store(url).write("ready", b"")
            return
        except StoreError:
            assert time.monotonic() < give_up
            time.sleep(0.2)
