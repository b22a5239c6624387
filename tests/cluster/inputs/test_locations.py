"""Inputs within containers: how they are named in a manifest, and read, from files and from buckets."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.inputs import locations
from cluster.inputs.images import check_size
from cluster.inputs.locations import Broken, Container, Location, Member, file_of
from cluster.inputs.manifest import SCHEMA, Manifest
from cluster.inputs.readable import check_readable
from cluster.inputs.sources import Unreadable, describe, read_image, read_member
from cluster.storage.store import Changed, NotFound, Refused, Store, StoreError, open_store
from tests.support.bucket_caches import forget_buckets
from tests.support.scripted_server import (
    NO_SUCH_KEY,
    Answer,
    Request,
    Server,
    answering,
    found,
    refusal,
)

DATA = bytes(range(256)) * 40


@pytest.fixture(params=["local", "bucket", "odd key"])
def container(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The uri of a file with DATA. An odd key is one that only boto3 can address."""
    if request.param == "local":
        (tmp_path / "a#b.tar").write_bytes(DATA)
        return str(tmp_path / "a#b.tar")
    s3 = request.getfixturevalue("s3")
    uri = f"{s3}/{uuid.uuid4().hex}/{'a#b' if request.param == 'bucket' else 'line' + chr(10) + 'break'}.tar"
    _write(uri, DATA)
    return uri


def _write(uri: str, data: bytes) -> None:
    if "://" not in uri:
        Path(uri).write_bytes(data)
        return
    parent, _, name = uri.rpartition("/")
    store = open_store(uri.rpartition("/")[0])
    if "\n" in name:
        assert store.s3
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        store.s3.client.put_object(Bucket=bucket, Key=key, Body=data)
    else:
        open_store(parent).write(name, data)


def read(location: Location) -> bytes:
    return read_image("a name for people", lambda size: None, location)


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (0, len(DATA)), (1000, 300), (len(DATA) - 7, 7)])
def test_a_range_is_read(container: str, offset: int, size: int) -> None:
    listed = describe(container)
    assert (listed.uri, listed.size) == (container, len(DATA)) and listed.version
    assert read(Member(listed, offset, size)) == DATA[offset : offset + size]
    assert read(Member(listed, offset, 0)) == b""


@pytest.mark.parametrize("change", ["grows", "shrinks", "same size"])
@pytest.mark.parametrize("size", [0, 300])
def test_a_container_that_changed_gives_no_bytes(container: str, change: str, size: int) -> None:
    member = Member(describe(container), 9000, size)
    other = {"grows": DATA + b"x", "shrinks": DATA[:100], "same size": DATA[::-1]}[change]
    _write(container, other)
    if "://" not in container:  # whatever the resolution of the file system's clock
        os.utime(container, ns=(1, 1))
    with pytest.raises(Unreadable, match="has changed since") as unreadable:
        read(member)
    assert unreadable.value.reason_code == "unreadable"


def test_a_container_that_is_gone_is_missing(container: str) -> None:
    listed = describe(container)
    gone = Container(f"{container}.gone.tar", listed.size, listed.version)
    for member in (Member(gone, 0, 5), Member(gone, 0, 0)):
        with pytest.raises(Unreadable) as unreadable:
            read(member)
        assert unreadable.value.reason_code == "missing"


def test_a_container_is_read_whatever_its_version_if_none_was_known(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(DATA)
    assert read(Member(Container(str(tmp_path / "a.tar"), len(DATA), None), 3, 4)) == DATA[3:7]


def test_the_size_is_checked_before_anything_is_read() -> None:
    member = Member(Container("/nowhere/a.tar", 10**12, None), 0, 10**11)
    with pytest.raises(Exception, match=r"cluster\.max_bytes"):
        read_image("x", check_size, member)


def test_inputs_found_broken_when_listed_are_not_read() -> None:
    with pytest.raises(Unreadable, match="it ends early") as unreadable:
        read(Broken("/nowhere/a.tar", "it ends early"))
    assert unreadable.value.reason_code == "unreadable"


def test_only_regular_files_are_containers(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(Unreadable, match="regular file"):
        describe(str(tmp_path / "a.tar"))
    with pytest.raises(Unreadable, match="regular file"):
        read_member(Member(Container(str(tmp_path / "a.tar"), 10, None), 0, 5))


def _manifest(rows: list[dict[str, object]]) -> Manifest:
    schema = pa.unify_schemas([SCHEMA, locations.SCHEMA, pa.schema([("txt", pa.string())])])
    return Manifest("/x", pa.Table.from_pylist(rows, schema))


def test_a_manifest_keeps_locations() -> None:
    tar = {"container": "/x/a.tar", "container_bytes": 10_000, "container_version": "7"}
    manifest = _manifest(
        [
            {"uri": "/x/a.tar#1.png", "bytes": 30, **tar, "offset": 512, "txt": "one"},
            {"uri": "/x/a.tar", **tar, "problem": "it ends early"},
            {"uri": "/x/loose.png", "bytes": 4},
        ]
    )
    again = Manifest.from_parquet(manifest.to_parquet())
    assert again.table == manifest.table
    expected = [
        Member(Container("/x/a.tar", 10_000, "7"), 512, 30),
        Broken("/x/a.tar", "it ends early"),
        None,
    ]
    assert [again.location(number) for number in range(3)] == expected
    files = [file_of(again.uri(number), again.location(number)) for number in range(3)]
    assert files == again.files.to_pylist() == ["/x/a.tar", "/x/a.tar", "/x/loose.png"]
    assert again.extra == ["txt"] and again.columns(0) == {"txt": "one"}


def test_a_manifest_of_loose_files_has_no_locations() -> None:
    manifest = Manifest("", pa.table([["/a#b.png"], [4]], SCHEMA))
    assert not manifest.has_containers and manifest.location(0) is None
    assert manifest.files.to_pylist() == ["/a#b.png"]


def test_buckets_are_tried_by_their_containers(s3: str) -> None:
    folder = f"{s3}/{uuid.uuid4().hex}"
    open_store(folder).write("a.tar", DATA)
    row = {"uri": f"{folder}/a.tar#x.png", "bytes": 3, "container": f"{folder}/a.tar", "container_bytes": 9}
    assert check_readable(_manifest([row])) == {s3: f"{folder}/a.tar".removeprefix(f"{s3}/")}


def _partial(body: str, start: int, size: int, tag: str = '"1"') -> Answer:
    end = start + len(body) - 1
    more = {"Content-Range": f"bytes {start}-{end}/{size}", "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    return Answer(206, body, "application/octet-stream", {"ETag": tag, **more})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with answering() as server:
        forget_buckets()
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield server
    forget_buckets()


def _range(store: Store) -> bytes:
    return store.read_range("a.tar", 10, 5, 100, '"1"')


def test_answers_to_a_request_for_a_range(server: Server) -> None:
    store = open_store("s3://b", patience=0)
    server.answer = lambda request: _partial("01234", 10, 100)
    assert _range(store) == b"01234"
    assert server.requests[-1].headers["range"] == "bytes=10-14"
    for answer in (_partial("01234", 10, 99), _partial("01234", 10, 100, '"2"')):
        server.answer = lambda request, answer=answer: answer
        with pytest.raises(Changed):
            _range(store)
    server.answer = lambda request: NO_SUCH_KEY
    with pytest.raises(NotFound):
        _range(store)


def _of_size(size: int, get: Answer) -> Callable[[Request], Answer]:
    """Answers to HEAD for an object of so many bytes, and one answer to GET."""
    return lambda request: get if request.method == "GET" else found("x" * size)


def test_a_short_answer_is_not_taken_for_the_bytes(server: Server) -> None:
    server.answer = _of_size(100, _partial("012", 10, 100))
    with pytest.raises(StoreError, match=r"10\.\.13"):
        _range(open_store("s3://b", patience=0))


def test_a_store_that_ignores_ranges_is_refused(server: Server) -> None:
    server.answer = lambda request: found("x" * 100)
    with pytest.raises(Refused):
        _range(open_store("s3://b", patience=0))


def test_an_unavailable_range_is_a_change_only_if_the_object_has_changed(server: Server) -> None:
    beyond = refusal(416, "InvalidRange")
    store = open_store("s3://b", patience=0)
    server.answer = _of_size(8, beyond)
    with pytest.raises(Changed, match="8 bytes instead of 100"):
        _range(store)
    server.answer = _of_size(100, beyond)
    with pytest.raises(Refused, match="InvalidRange"):
        _range(store)
