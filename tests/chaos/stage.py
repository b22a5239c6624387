"""The environment of the schedules: a Ray cluster of three nodes, an S3 gateway behind faulty proxies, and
images whose verdicts are known."""

from __future__ import annotations

import io
import os
import random
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

import boto3
import psutil
from PIL import Image

from cluster.inputs.identities import image_id_of
from cluster.storage.store import Store, open_store
from originality.contract.scorer import Item
from tests.chaos.chain import NODE, STEPS, link, start
from tests.support.failing_proxy import FaultyProxy
from tests.support.places import python_path
from tests.support.ray_clusters import Machines
from tests.support.seaweed import Gateway

COLLECTION = "collection"
"""Bucket of the images; runs are in a different one."""
IMAGES, COPIES = 24, 4
_NODES = 2
_CPUS = 2
"""CPUs of a node: enough that a second driver fits beside a suspended one."""
_NO_FILES = {
    "text.png": b"no image",
    "empty.png": b"",
    "cut.jpg": b"\xff\xd8\xff\xe0",
    "nothing.png": bytes(100),
}
_NOTICED = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "2",
}
"""Makes Ray take a suspended machine for lost while it is suspended."""


@dataclass
class Expected:
    """The result of an undisturbed run."""

    verdicts: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """image_id to status and chain."""
    inputs: dict[str, str] = field(default_factory=dict)
    """uri to image_id."""


class Stage:
    """Entered once for many schedules. Sets environment variables with the addresses of its parts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected = Expected()
        self.source = f"s3://{COLLECTION}/in"
        self._stack = ExitStack()
        self._nodes: dict[int, Any] = {}

    def __enter__(self) -> Self:
        before = dict(os.environ)
        self._stack.callback(lambda: (os.environ.clear(), os.environ.update(before)))
        self.gateway = Gateway(self.folder)
        self._stack.callback(self.gateway.stop)
        self.gateway.start()
        os.environ.update(self.gateway.environment)
        self._upload()
        self.proxies = [self._stack.enter_context(FaultyProxy(self.gateway.port)) for _ in range(1 + _NODES)]
        """The proxy of the drivers, and that of each node."""
        os.environ["AWS_ENDPOINT_URL"] = self.proxies[0].url
        os.environ["PYTHONPATH"] = python_path()
        os.environ.update(_NOTICED)
        self.cluster = Machines(initialize_head=True, head_node_args={"num_cpus": 0})
        self._stack.callback(self.cluster.shutdown)
        self.mend()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def mend(self) -> None:
        """Makes everything available and working again."""
        self.gateway.start()
        for proxy in self.proxies:
            proxy.heal()
        self.refill()

    def refill(self) -> None:
        """Replaces nodes that the cluster has given up."""
        for number in range(_NODES):
            if number in self._nodes and not self._is_alive(number):
                self.lose(number)
            if number not in self._nodes:
                way = {"AWS_ENDPOINT_URL": self.proxies[1 + number].url, NODE: str(number)}
                self._nodes[number] = self.cluster.add_node(num_cpus=_CPUS, env_vars=way)

    @property
    def nodes(self) -> list[int]:
        """Numbers of the nodes that run."""
        return list(self._nodes)

    def lose(self, number: int) -> None:
        """Kills all processes of a node."""
        self.cluster.remove_node(self._nodes.pop(number), allow_graceful=False)

    def raylet(self, number: int) -> psutil.Process:
        """The raylet of a node; its workers are child processes.

        Raises:
            psutil.Error: it is gone.
        """
        return psutil.Process(self._nodes[number].all_processes["raylet"][0].process.pid)

    def _is_alive(self, number: int) -> bool:
        """Whether a node runs and the cluster counts it as alive; one suspended for too long is given up."""
        node = self._nodes[number]
        if any(name == "raylet" for name, _ in node.dead_processes()):
            return False
        table = self.cluster.global_state.node_table()
        socket = node.plasma_store_socket_name
        return any(row["Alive"] for row in table if row["ObjectStoreSocketName"] == socket)

    def store(self, output: str) -> Store:
        """A run's objects, read without the proxies."""
        with patch.dict(os.environ, self.gateway.environment):
            return open_store(output)

    def logs(self, name: str) -> list[Path]:
        """The logs of a schedule's processes."""
        return sorted(self.folder.glob(f"{name}*.log"))

    def _upload(self) -> None:
        way = self.gateway.environment
        client = boto3.client("s3", endpoint_url=way["AWS_ENDPOINT_URL"])
        client.create_bucket(Bucket=COLLECTION)
        store = open_store(self.source)
        dice = random.Random(0)
        for i in range(IMAGES):
            image = Image.new("RGB", (4, 4), tuple(dice.randrange(256) for _ in range(3)))
            data = io.BytesIO()
            image.save(data, "PNG")
            chain = start(Item("", image))
            for step in range(STEPS):
                chain = link(chain, step)
            self._put(store, f"{i:02}.png", data.getvalue(), ("judged", chain))
            if i < COPIES:
                self._put(store, f"copies/{i:02}.png", data.getvalue(), ("judged", chain))
        for name, data in _NO_FILES.items():
            self._put(store, name, data, ("rejected", None))

    def _put(self, store: Store, path: str, data: bytes, ends: tuple[str, str | None]) -> None:
        store.write(path, data)
        self.expected.verdicts[image_id_of(data)] = ends
        self.expected.inputs[f"{store.url}/{path}"] = image_id_of(data)
