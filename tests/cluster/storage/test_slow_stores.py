"""Stores whose answers never end: each request has a bound, and its failure is attributed correctly."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.inputs.sources import Unreadable, read_image
from cluster.storage import bounds
from cluster.storage.bounds import Late
from cluster.storage.store import PATIENCE as STORE_PATIENCE
from cluster.storage.store import Outage, open_store
from cluster.worker.messages import Task
from cluster.worker.worker import Worker
from tests.support.bucket_caches import forget_buckets
from tests.support.failing_proxy import FaultyProxy
from tests.support.held_clock import Clock
from tests.support.mean_colour import MeanColour, paint
from tests.support.plain_worker import lease_all, work
from tests.support.scripted_server import (
    NO_SUCH_KEY,
    Answer,
    Request,
    Server,
    answering,
    found,
    listing,
    refusal,
)
from tests.support.waiting import PATIENCE

LARGE = "x" * 100_000
"""So long that it never arrives byte by byte."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with answering() as server:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv(STORE_PATIENCE, "0.2")
        forget_buckets()
        yield server
        forget_buckets()


@pytest.fixture
def proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy in front of the server. A minute passes with each single byte, and no time otherwise."""
    with FaultyProxy(server.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setattr(bounds, "monotonic_clock", lambda: 60.0 * proxy.dripped)
        monkeypatch.setattr(bounds, "LOOK_SECONDS", 0.01)
        yield proxy


def test_a_dripping_object_is_unreadable_but_an_outage_is_retried(server: Server, proxy: FaultyProxy) -> None:
    key = "in/a.png"
    server.answer = lambda request: found(LARGE) if request.path.endswith("a.png") else NO_SUCH_KEY
    assert read_image(f"s3://b/{key}", lambda size: None) == LARGE.encode()
    proxy.fault("drip", seconds=0.01, method="GET", name="a.png")
    with pytest.raises(Unreadable, match=r"a\.png: \d+ of 100000 bytes arrived in \d+ s$") as caught:
        read_image(f"s3://b/{key}", lambda size: None)
    assert caught.value.reason_code == "unreadable"
    server.answer = lambda request: found(LARGE) if request.method != "HEAD" else refusal(503, "SlowDown")
    with pytest.raises(Outage):
        read_image(f"s3://b/{key}", lambda size: None)


def test_a_dripping_listing_is_resumed(server: Server, proxy: FaultyProxy) -> None:
    keys = [f"k{i:04}" for i in range(300)]
    server.answer = lambda request: listing(*keys)
    proxy.fault("drip", seconds=0.01, name="list-type", times=1)
    assert [found.path for found in open_store("s3://b", patience=60).list()] == keys
    assert proxy.struck == 1
    proxy.fault("drip", seconds=0.01, name="list-type")
    with pytest.raises(Late, match=r"^s3://b: no answer in \d+ s$"):
        list(open_store("s3://b").list())


def test_create_is_right_after_a_put_that_hung(server: Server, clock: Clock) -> None:
    """The abandoned request wrote the object after all."""
    go, puts = threading.Event(), []

    def answer(request: Request) -> Answer:
        if request.method != "PUT":
            return found("mine")
        puts.append(request.path)
        if len(puts) == 1:
            clock.hangs.set()
            assert go.wait(PATIENCE)
        clock.hangs.clear()
        return refusal(412, "PreconditionFailed")

    server.answer = answer
    assert open_store("s3://b/run", patience=60).create("k", b"mine")
    assert len(puts) > 1
    puts.clear()
    assert not open_store("s3://b/run", patience=60).create("k", b"not mine")
    go.set()


def test_a_worker_whose_put_hangs_blames_the_store(tmp_path: Path, server: Server, clock: Clock) -> None:
    paint(tmp_path / "in", "a.png", (1, 1, 1))
    go = threading.Event()

    def answer(request: Request) -> Answer:
        if request.method == "PUT":
            clock.hangs.set()
            go.wait(PATIENCE)
        return listing() if "list-type" in request.path else NO_SUCH_KEY

    server.answer = answer
    worker = Worker(Task("s3://b/run", MeanColour, {}))
    with pytest.raises(Outage, match=r"^s3://b/run/.*: no answer in \d+ s$"):
        work(worker, list(lease_all(tmp_path / "in").values()), lambda r: False)
    go.set()
    with pytest.raises(Outage):
        worker.stop(PATIENCE)
