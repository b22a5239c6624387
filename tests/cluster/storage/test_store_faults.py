"""Faults of the store: a gateway behind a proxy that fails on request, and a gateway that is killed."""

from __future__ import annotations

import http.client
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.parse import urlsplit

import pytest

from cluster.inputs.sources import Unreadable, read_image
from cluster.storage.store import PATIENCE, NotFound, Outage, Store, StoreError, open_store
from tests.support.bucket_caches import forget_buckets
from tests.support.failing_proxy import FaultyProxy
from tests.support.seaweed import BUCKET, Gateway
from tests.support.waiting import PATIENCE as PATIENCE_SECONDS
from tests.support.waiting import until


@pytest.fixture
def proxy(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy in front of the gateway of all tests; the environment selects it."""
    with FaultyProxy(urlsplit(os.environ["AWS_ENDPOINT_URL"]).port or 0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def store(proxy: FaultyProxy) -> Store:
    return open_store(f"s3://{BUCKET}/{uuid.uuid4().hex}")


def _a_day_of_work(store: Store, day: int) -> None:
    """Every operation of a store; each result is the same as without faults."""
    big, small = os.urandom(400_000), uuid.uuid4().bytes
    store.write(f"{day}/big", b"old")
    store.write(f"{day}/big", big)
    assert store.read(f"{day}/big") == big
    assert store.size(f"{day}/big") == len(big)
    assert store.create(f"{day}/once", small)
    assert not store.create(f"{day}/once", b"another")
    assert store.read(f"{day}/once") == small
    assert sorted(found.path for found in store.list(str(day))) == [f"{day}/big", f"{day}/once"]
    store.delete(f"{day}/once")
    assert not store.exists(f"{day}/once")
    with pytest.raises(NotFound):
        store.read(f"{day}/once")


FAULTS: list[dict[str, Any]] = [
    {"mode": "error", "status": 500},
    {"mode": "error", "status": 503},
    {"mode": "error", "status": 429},
    {"mode": "refuse"},
    {"mode": "cut"},
    {"mode": "truncate"},
    {"mode": "lose_answer"},
    {"mode": "slow", "seconds": 0.1},
]


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: " ".join(map(str, fault.values())))
def test_work_is_right_whatever_fails(store: Store, proxy: FaultyProxy, fault: dict[str, Any]) -> None:
    proxy.fault(**fault, share=0.3, seed=7)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda day: _a_day_of_work(store, day), range(6)))
    assert proxy.struck >= 10


def test_a_large_multipart_upload_is_right(store: Store, proxy: FaultyProxy) -> None:
    data = os.urandom(12_000_000)
    for mode in ("error", "cut", "lose_answer"):
        proxy.fault(mode, share=0.2, seed=1)
        store.write("large", data)
        assert store.read("large") == data
        assert proxy.struck


@pytest.mark.long
def test_one_creator_succeeds_even_if_answers_are_lost(store: Store, proxy: FaultyProxy) -> None:
    for key in range(2):
        proxy.fault("lose_answer", share=0.3, seed=key)
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda i, key=key: store.create(f"key{key}", b"%d" % i), range(12)))
        assert proxy.struck
        proxy.heal()
        assert won.count(True) == 1
        assert store.read(f"key{key}") == b"%d" % won.index(True)


def test_a_good_store_is_not_refused_when_answers_are_lost(store: Store, proxy: FaultyProxy) -> None:
    struck = 0
    for seed in range(6):
        proxy.fault("lose_answer", method="PUT", share=0.5, seed=seed)
        store.check_create()
        struck += proxy.struck
    assert struck >= 6
    assert list(store.list()) == []


def test_create_is_right_after_a_lost_answer(store: Store, proxy: FaultyProxy) -> None:
    for mode in ("lose_answer", "cut"):
        proxy.fault(mode, method="PUT", times=1)
        assert store.create(f"{mode}/mine", b"mine")
        proxy.heal()
        assert store.create(f"{mode}/theirs", b"theirs")
        proxy.fault(mode, method="PUT", times=1)
        assert not store.create(f"{mode}/theirs", b"mine")
        assert proxy.struck == 1
        assert (store.read(f"{mode}/mine"), store.read(f"{mode}/theirs")) == (b"mine", b"theirs")


def test_create_retries_after_a_concurrent_request(store: Store, proxy: FaultyProxy) -> None:
    proxy.fault("error", status=409, method="PUT", header="if-none-match", times=2)
    store.write("plain", b"is no creation")
    assert proxy.struck == 0
    assert store.create("once", b"mine")
    assert proxy.struck == 2
    assert not store.create("once", b"theirs")


def test_a_delayed_put_arrives_late(store: Store, proxy: FaultyProxy) -> None:
    proxy.fault("hold", method="PUT", name="/late", times=1)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(store.write, "late", b"data")
        until(lambda: proxy.struck)
        store.write("early", b"data")
        assert [found.path for found in store.list()] == ["early"]
        proxy.heal()
        writing.result(PATIENCE_SECONDS)
    assert store.read("late") == b"data"


def test_a_dripping_answer_completes_once_the_fault_ends(store: Store, proxy: FaultyProxy) -> None:
    data = os.urandom(100_000)
    store.write("slow", data)
    proxy.fault("drip", seconds=0.001, method="GET", name="/slow")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(store.read, "slow")
        until(lambda: proxy.dripped >= 3)
        assert not reading.done()
        proxy.heal()
        assert reading.result(PATIENCE_SECONDS) == data


def test_an_interrupted_listing_is_resumed(store: Store, proxy: FaultyProxy) -> None:
    """Across pages of 1,000, and folders whose names sort around the slash."""
    names = {f"{folder}{i:04}" for folder in ("a/", "a-b/", "a.", "a/b/") for i in range(650)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.write(name, b"x"), names))
    for mode in ("cut", "error", "lose_answer"):
        proxy.fault(mode, share=0.5, seed=2)
        listed = [found.path for found in store.list()]
        assert proxy.struck
        assert len(listed) == len(names) and set(listed) == names


def test_a_long_outage_ends_with_its_reason(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_PATIENCE_SECONDS", "1.5")
    store = open_store(f"s3://{BUCKET}/run")
    proxy.fault("error", status=503)
    with pytest.raises(Outage, match=r"^s3://test/run/a: [^\n]*503 Service Unavailable[^\n]*$"):
        store.create("a", b"")
    assert proxy.struck > 1  # asked again, until the patience had run out
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Outage, match="Connection refused"):
        open_store("s3://test/run", patience=0).read("a")


def test_permanent_failures_are_reported_at_once(store: Store, proxy: FaultyProxy) -> None:
    proxy.fault("error", status=400)
    for ask in (store.read, store.size, store.delete, lambda path: store.create(path, b"")):
        with pytest.raises(StoreError) as caught:
            ask("a")
        assert not isinstance(caught.value, Outage)
    assert proxy.struck == 5  # HEAD is followed by GET, whose answer has a body with the reason


@pytest.mark.parametrize("status", [400, 500])
def test_one_unreadable_object_is_not_an_outage(
    proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv(PATIENCE, "1")
    folder = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    open_store(folder).write("a.png", b"x")
    forget_buckets()
    proxy.fault("error", status=status, method="GET")  # HEAD is answered: the store is there
    with pytest.raises(Unreadable) as caught:
        read_image(f"{folder}/a.png", lambda size: None)
    assert caught.value.reason_code == "unreadable" and str(status) in caught.value.message
    proxy.fault("error", status=503)
    with pytest.raises(Outage):
        read_image(f"{folder}/a.png", lambda size: None)
    monkeypatch.setenv(PATIENCE, "300")
    forget_buckets()
    proxy.fault("error", status=503, times=4)
    assert read_image(f"{folder}/a.png", lambda size: None) == b"x"
    forget_buckets()


def test_the_proxy_separates_requests_of_one_connection(s3: str, proxy: FaultyProxy) -> None:
    """Chunked bodies and bodies with a length; answers with and without a body."""
    wire = http.client.HTTPConnection("127.0.0.1", proxy.port)
    proxy.fault("error", method="PUT", times=2, status=500)
    for body in (b"x" * 100_000, iter([b"PUT / HTTP/1.1\r\n\r\n", b"y"])):  # the second goes in chunks
        wire.request("PUT", f"/{BUCKET}/a", body=body)
        answer = wire.getresponse()
        assert (answer.status, answer.read()[:5]) == (500, b"<?xml")
    for method, status in (("HEAD", 403), ("PUT", 403), ("GET", 403)):  # unsigned, so the gateway refuses
        wire.request(method, f"/{BUCKET}/a", body=b"z" if method == "PUT" else None)
        answer = wire.getresponse()
        assert answer.status == status
        answer.read()
    assert proxy.struck == 2


def test_a_killed_gateway_keeps_what_it_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(tmp_path)
    try:
        gateway.start()
        for name, value in gateway.environment.items():
            monkeypatch.setenv(name, value)
        store = open_store(f"s3://{BUCKET}/run")
        for life in range(2):
            store.write(f"{life}/a", os.urandom(200_000))
            assert store.create(f"{life}/once", b"first")
            before = store.read(f"{life}/a")
            gateway.restart()
            assert store.read(f"{life}/a") == before
            assert not store.create(f"{life}/once", b"second")
            assert len(list(store.list())) == 2 * (life + 1)
    finally:
        gateway.stop()


@pytest.mark.long
def test_work_resumes_when_the_gateway_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is gone for longer than obstore's own retries last, which is 2 to 7 seconds."""
    gateway = Gateway(tmp_path)
    try:
        gateway.start()
        for name, value in gateway.environment.items():
            monkeypatch.setenv(name, value)
        store = open_store(f"s3://{BUCKET}/run")
        gateway.kill()
        back = Timer(10, gateway.start)
        back.start()
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda day: _a_day_of_work(store, day), range(3)))
        back.join()
    finally:
        gateway.stop()
