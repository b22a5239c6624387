"""A real S3 gateway for tests: SeaweedFS on loopback, with credentials. It can be killed and restarted."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from cluster.storage.store import StoreError, open_store
from tests.support.waiting import PATIENCE

BUCKET = "test"

_KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "not-a-real-secret"}


def _free_ports(count: int) -> list[int]:
    """Consecutive ports that are free, and also the ports 10,000 above: SeaweedFS opens both.

    All are below those that Linux gives to outgoing connections, so that a killed gateway gets its own again.
    """
    while True:
        first = random.randrange(20_000, 22_700)
        with ExitStack() as held:
            try:
                for port in range(first, first + count):
                    for number in (port, port + 10_000):
                        held.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except OSError:
                continue
            return list(range(first, first + count))


class Gateway:
    """SeaweedFS over one folder. Its ports and data stay the same over ``kill`` and ``restart``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = _free_ports(5)
        self._server: subprocess.Popen[bytes] | None = None
        self._lived = False

    @property
    def port(self) -> int:
        """Port of its S3 interface."""
        return self._ports[0]

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that select it, as AWS's tools read them."""
        endpoint = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "AWS_DEFAULT_REGION": "us-east-1"}
        return {**_KEYS, **endpoint}

    def start(self) -> None:
        """Returns when the bucket takes an object. A server that ends early, as it does when another
        program has its port for a moment, is started again.

        Raises:
            TimeoutError: it did not come up; its log is ``weed.log`` in the folder.
        """
        give_up = time.monotonic() + PATIENCE
        while not (self._running() and self._answers()):
            if time.monotonic() > give_up:
                self.kill()
                raise TimeoutError(f"SeaweedFS does not come up; read {self.folder / 'weed.log'}")
            if not self._running():
                self._launch()
            time.sleep(0.1)

    def kill(self) -> None:
        """Send SIGKILL, as if its machine were lost."""
        if self._server is not None:
            self._server.kill()
            self._server.wait(20)
            self._server = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def stop(self) -> None:
        """Send SIGTERM for a regular exit; on a busy machine it may take too long, and is killed."""
        if self._server is not None:
            self._server.terminate()
            try:
                self._server.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
            self._server = None

    def _running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    def _launch(self) -> None:
        s3, master, volume, filer, admin = self._ports
        command = [
            str(Path(sys.executable).parent / "weed"),
            f"-logdir={self.folder}",
            "mini",
            f"-dir={self.folder}",
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={s3}", f"-master.port={master}"),
            *(f"-volume.port={volume}", f"-filer.port={filer}", f"-admin.port={admin}"),
            *("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-master.telemetry=false", f"-bucket={BUCKET}"),
        ]
        with (self.folder / "weed.log").open("ab") as log:
            self._server = subprocess.Popen(command, env={**os.environ, **_KEYS}, stdout=log, stderr=log)

    def _answers(self) -> bool:
        """Whether objects can be read and written.

        The port opens before the bucket exists. After a kill the names are there before the contents, and the
        contents before there is room for more.
        """
        bucket = S3Store(
            BUCKET,
            endpoint=f"http://127.0.0.1:{self.port}",
            access_key_id=_KEYS["AWS_ACCESS_KEY_ID"],
            secret_access_key=_KEYS["AWS_SECRET_ACCESS_KEY"],
            region="us-east-1",
            client_options={"allow_http": True, "timeout": timedelta(seconds=30)},
            retry_config={"max_retries": 0},
        )
        with suppress(BaseError, FileNotFoundError):  # FileNotFoundError: the bucket
            if self._lived:
                obstore.get(bucket, "ready").bytes()
            obstore.put(bucket, "ready", b"ready")
            self._lived = True
            return True
        return False


@contextmanager
def seaweed(folder: Path) -> Iterator[dict[str, str]]:
    """A running gateway with an empty bucket; yields the environment variables that select it."""
    gateway = Gateway(folder)
    try:
        gateway.start()
        yield gateway.environment
    finally:
        gateway.stop()


def wait_for_bucket(url: str) -> None:
    """Wait for the bucket: the gateway answers a little before it exists."""
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            open_store(url, patience=0).write("ready", b"ready")
            return
        except StoreError:
            assert time.monotonic() < give_up
            time.sleep(0.2)
