from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from cluster.storage.store import (
    PATIENCE,
    NotFound,
    Store,
    StoreError,
    absolute,
    open_store,
    patience_seconds,
)
from tests.support.failing_proxy import FaultyProxy


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        return open_store(f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}")
    return open_store(str(tmp_path / "new" / "folder") if request.param == "local" else "memory://")


def test_read_returns_what_was_written(store: Store) -> None:
    store.write("a/b.bin", b"one")
    store.write("a/b.bin", b"two")
    assert store.read("a/b.bin") == b"two"
    assert store.size("a/b.bin") == 3


def test_missing_objects_are_named(store: Store) -> None:
    for ask in (store.read, store.size):
        with pytest.raises(NotFound, match=r"a/nothing does not exist"):
            ask("a/nothing")
    assert not store.exists("a/nothing")
    store.delete("a/nothing")


def test_one_of_many_creators_succeeds(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.create("key", bytes([i])), range(16)))
    assert won.count(True) == 1
    assert store.read("key") == bytes([won.index(True)])


def test_one_of_many_creators_of_equal_bytes_succeeds(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda _: store.create("key", b"the same"), range(16)))
    assert won.count(True) == 1


def test_check_create_leaves_no_object(store: Store) -> None:
    store.check_create()
    assert list(store.list()) == []


class _Overwriting(BaseHTTPRequestHandler):
    """An S3 gateway that accepts every object, whatever the conditions of the request."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b'<?xml version="1.0"?><DeleteResult></DeleteResult>')

    def _answer(self, body: bytes = b"") -> None:
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_store_that_overwrites_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not answers are lost."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Overwriting) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        with FaultyProxy(server.server_port) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
            for seed in range(4):
                if seed:
                    proxy.fault("lose_answer", method="PUT", share=0.5, seed=seed)
                with pytest.raises(StoreError, match="another store for --out"):
                    open_store("s3://any/run").check_create()
        server.shutdown()


def test_wrong_credentials_are_one_line_that_does_not_show_them(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(StoreError) as caught:
        open_store(f"{s3}/run").write("a", b"x")
    assert "\n" not in str(caught.value) and "wrong-secret" not in str(caught.value)


def test_list_matches_complete_path_parts(store: Store) -> None:
    for path in ("a/1", "a/b/2", "ab/3"):
        store.write(path, b"xx")
    assert {found.path for found in store.list("a")} == {"a/1", "a/b/2"}
    assert {(found.path, found.size) for found in store.list()} == {
        ("a/1", 2),
        ("a/b/2", 2),
        ("ab/3", 2),
    }
    assert list(store.list("nothing")) == []


def test_unusual_local_names(tmp_path: Path) -> None:
    names = {"a b.png", "é.png", 'q"u.png', "h#a%20s.png", "[b]*.png", "tilde~.png"}
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    store = open_store(str(tmp_path))
    assert {found.path for found in store.list()} == names
    assert all(store.read(name) == name.encode() for name in names)


def test_a_newline_in_a_name_is_escaped_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "new\nline.png").write_bytes(b"x")
    with pytest.raises(StoreError, match=r"cannot be addressed; .*new\\nline\.png"):
        list(open_store(str(tmp_path)).list())


def test_paths_cannot_leave_the_store(store: Store) -> None:
    with pytest.raises(StoreError):
        store.read("../secret")


def test_invalid_folders(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        open_store(str(tmp_path / "none"), create=False)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        open_store(str(tmp_path / "file"))
    with pytest.raises(StoreError, match="use a local folder"):
        open_store("ftp://host/x")


@pytest.mark.parametrize("given", ["nan", "inf", "-1", "5 min", "-inf"])
def test_an_invalid_patience_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(PATIENCE, given)
    with pytest.raises(StoreError, match=f"^STORE_PATIENCE_SECONDS is '{given}'; write a number of seconds$"):
        patience_seconds()


def test_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("x/") == absolute(f"file://{tmp_path}/x") == str(tmp_path / "x")
    assert absolute("s3://bucket/prefix/") == "s3://bucket/prefix"
    assert open_store("s3://bucket/prefix/").url == "s3://bucket/prefix"
