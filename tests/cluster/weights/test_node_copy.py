"""Weights from a bucket of a real S3 gateway, for several processes of one node."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cluster.storage.store import NotFound, StoreError, open_store
from cluster.weights import bucket
from cluster.weights.cache import DIGESTS, clear_leftovers
from cluster.weights.node_copy import local_copy
from cluster.weights.wanted import Wanted
from originality.contract import node_cache
from originality.contract.download import FetchError
from originality.contract.node_cache import CHECKSUMS
from originality.model.diffusers_folder import PARTS
from originality.model.diffusion import LatentDiffusion
from originality.model.model_folder import open_model
from originality.settings.parts import ModelSettings
from tests.support.network_line import Line
from tests.support.waiting import PATIENCE
from tests.support.weight_processes import SHAPES, UNET, answer, error, files, serving, start

# Private: bucket._list, bucket._folder_of and bucket._Journal, because no public call stops after some of the
# pieces: a test makes by hand what a killed copy leaves.


@pytest.fixture
def prefix(s3: str) -> str:
    """URL of the shipped model in a bucket, among files that are not needed."""
    store = open_store(f"{s3}/{uuid.uuid4().hex}")
    for name, data in files(SHAPES).items():
        store.write(name, data)
    for name in (
        "unet/diffusion_pytorch_model.bin",
        "vae/a.ckpt",
        "vae/a.pt",
        "README.md",
        "safety/model.json",
    ):
        store.write(name, b"not wanted")
    store.write("unet/diffusion_pytorch_model.fp16.safetensors", b"not wanted")
    return store.url


@pytest.fixture
def line(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    line = Line(urlsplit(os.environ["AWS_ENDPOINT_URL"]).port or 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
    yield line
    line.close()


def test_a_prefix_becomes_a_folder_that_loads(prefix: str, cache: Path, line: Line) -> None:
    folder = local_copy(prefix, PARTS)
    assert folder is not None and folder.parent == cache
    assert files(folder) == files(SHAPES)
    kept = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    assert kept == {DIGESTS, *files(SHAPES)}
    settings = ModelSettings(path=prefix, device="cpu")
    model = LatentDiffusion(settings, open_model(settings, folder))
    assert model.name == prefix and model.digest == open_model(ModelSettings()).digest
    before = line.gets()
    assert set(before) == {*files(SHAPES), DIGESTS}  # there might be digests beside the files
    assert local_copy(prefix + "/", PARTS) == folder == answer(start(prefix))
    assert line.gets() == before


def test_one_of_several_racing_processes_downloads(prefix: str, cache: Path, line: Line) -> None:
    racers = [start(prefix) for _ in range(6)]
    folders = {answer(racer) for racer in racers}
    assert len(folders) == 1 and files(folders.pop()) == files(SHAPES)
    assert line.gets() == Counter(dict.fromkeys([*files(SHAPES), DIGESTS], 1))
    assert not list(cache.glob("*.part"))


def test_a_big_file_comes_in_pieces(
    prefix: str, cache: Path, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "RANGE_BYTES", 1_000_003)
    folder = local_copy(prefix, PARTS)
    assert folder is not None and files(folder) == files(SHAPES)
    assert line.gets()[UNET] == -(-len(files(SHAPES)[UNET]) // 1_000_003) > 1


def test_the_next_process_resumes_when_the_copying_one_is_killed(
    prefix: str, cache: Path, line: Line
) -> None:
    line.most = 3_000_000
    first = start(prefix)
    assert line.quiet.wait(PATIENCE)
    (part,) = cache.glob("*.part")
    assert any(f.is_file() for f in part.rglob("*"))
    second = start(prefix)
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(3)  # it waits while the first lives
    assert sum(line.gets().values()) <= len(files(SHAPES))
    first.kill()
    first.communicate()
    line.most = float("inf")
    line.through.set()
    assert files(answer(second)) == files(SHAPES)
    assert not list(cache.glob("*.part"))


def test_an_interrupted_copy_is_resumed(
    prefix: str, cache: Path, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "RANGE_BYTES", 500_009)
    monkeypatch.setattr(bucket, "CONNECTIONS", 1)
    pieces = -(-len(files(SHAPES)[UNET]) // 500_009)
    listed = bucket._list(open_store(prefix), Wanted(PARTS))
    part = bucket._folder_of(open_store(prefix), listed).with_suffix(".part")
    journal = bucket._Journal(part / "pieces")
    (part / "unet").mkdir()
    (part / UNET).write_bytes(files(SHAPES)[UNET][: 4 * 500_009])
    for number in range(3):
        journal.enter(UNET, number * 500_009)
    with (part / "pieces").open("a") as handle:
        handle.write("1500027 unet/dif")  # it was killed while it wrote
    folder = local_copy(prefix, PARTS)
    assert folder is not None and files(folder) == files(SHAPES)
    assert line.gets()[UNET] == pieces - 3
    assert not list(cache.glob("*.part")) and not (folder / "pieces").exists()


def test_a_head_takes_the_digest_from_the_prefix(
    prefix: str, cache: Path, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cluster")
    settings, store = ModelSettings(path=prefix), open_store(prefix)
    output = {name: hashlib.sha256(data).hexdigest() for name, data in files(SHAPES).items()}
    store.write(DIGESTS, json.dumps(output).encode())
    head = local_copy(prefix, PARTS, outlined=True)
    assert open_model(settings, head).digest == open_model(ModelSettings()).digest
    assert open_model(settings, head).weights_bytes == open_model(ModelSettings()).weights_bytes
    assert not [name for name in line.gets() if name.endswith(".safetensors")]
    before = line.gets()
    assert local_copy(prefix, PARTS, outlined=True) == head and line.gets() == before + Counter([DIGESTS])
    node = local_copy(prefix, PARTS)
    assert node != head and open_model(settings, node).digest == open_model(settings, head).digest
    assert local_copy(prefix, PARTS, outlined=True) == node, "what is here is taken"
    assert not caplog.records
    store.write(DIGESTS, b"{}")
    store.write("vae/config.json", files(SHAPES)["vae/config.json"] + b" ")
    complete = local_copy(prefix, PARTS, outlined=True)
    assert complete is not None and (complete / UNET).is_file()
    assert f"{prefix} has no checksum of text_encoder/model.safetensors" in caplog.text


def test_leftovers_of_other_models_are_removed(prefix: str, cache: Path, line: Line) -> None:
    (cache / "0123456789abcdef.part" / "unet").mkdir(parents=True)
    line.most = 3_000_000
    busy = start(prefix)
    assert line.quiet.wait(PATIENCE)
    (part,) = cache.glob("*.part")
    clear_leftovers(cache)
    assert part.exists() and part.stem != "0123456789abcdef"  # what is being worked on stays
    line.through.set()
    answer(busy)


@pytest.mark.parametrize("name", [UNET, DIGESTS, "tokenizer/merges.txt"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_copy_is_fetched_again(
    prefix: str, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, harm: str
) -> None:
    folder = local_copy(prefix, PARTS)
    assert folder is not None
    file = folder / name
    whole = file.read_bytes()
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1] if harm == "flip" else []))
    monkeypatch.setattr(node_cache, "known_digests", {})  # as in a new process
    assert local_copy(prefix, PARTS) == folder
    assert files(folder) == files(SHAPES) and file.read_bytes() == whole
    assert {f.name for f in cache.iterdir()} == {folder.name, f"{folder.name}.lock", CHECKSUMS}


def test_sizes_are_always_checked(prefix: str, cache: Path) -> None:
    folder = local_copy(prefix, PARTS)
    assert folder is not None
    (folder / UNET).write_bytes(b"short")
    local_copy(prefix, PARTS)
    assert files(folder) == files(SHAPES)


def test_a_changed_prefix_gets_a_new_copy(prefix: str, cache: Path) -> None:
    before = local_copy(prefix, PARTS)
    config = files(SHAPES)["scheduler/scheduler_config.json"]
    open_store(prefix).write("scheduler/scheduler_config.json", config.replace(b"0", b"1"))
    after = local_copy(prefix, PARTS)
    assert before is not None and after is not None and before != after
    assert (after / "scheduler/scheduler_config.json").read_bytes() != config
    assert files(before) == files(SHAPES)  # who uses it is not disturbed
    open_store(prefix).write("README.md", b"another text")
    assert local_copy(prefix, PARTS) == after


def test_a_prefix_that_changes_while_it_is_copied_is_refused(prefix: str, cache: Path, line: Line) -> None:
    line.most = 3_000_000
    copying = start(prefix)
    assert line.quiet.wait(PATIENCE)
    line.most = float("inf")
    open_store(prefix).write("vae/config.json", b"{}")
    line.through.set()
    assert error(copying).endswith("; start again")
    assert {f.suffix for f in cache.iterdir() if f.name != CHECKSUMS} == {".lock"}


def test_a_prefix_without_a_model_and_a_cache_without_a_place(
    s3: str, prefix: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound, match="no model"):
        local_copy(f"{s3}/nothing-here", PARTS)
    cache.write_text("a file")
    with pytest.raises(FetchError, match="ORIGINALITY_CACHE"):
        local_copy(prefix, PARTS)


def test_a_prefix_must_match_its_digests(prefix: str, cache: Path) -> None:
    store = open_store(prefix)
    output = {name: hashlib.sha256(data).hexdigest() for name, data in files(SHAPES).items()}
    store.write(DIGESTS, json.dumps({**output, "another/file": "0"}).encode())
    assert local_copy(prefix, PARTS) is not None
    store.write(UNET, b"another model")
    with pytest.raises(StoreError, match=rf"{UNET} .*digests\.json"):
        local_copy(prefix, PARTS)
    store.write(DIGESTS, b"[")
    with pytest.raises(StoreError, match=r"digests\.json is damaged"):
        local_copy(prefix, PARTS)


def test_pickles_are_fetched_only_on_request(prefix: str, cache: Path) -> None:
    model = local_copy(prefix, PARTS)
    metric = local_copy(prefix, PARTS, suffixes=(".bin", ".pt"))
    assert model is not None and metric is not None
    assert {f.suffix for f in metric.rglob("*") if f.is_file()} == {".bin", ".pt", ".json"}
    assert not {".bin", ".pt", ".ckpt"} & {f.suffix for f in model.rglob("*")}


class Liar(BaseHTTPRequestHandler):
    """An S3 gateway that lists one object, of any name and size, and counts requests for it."""

    def __init__(self, name: str, size: int, requested: list[str], *rest: object) -> None:
        self.name, self.size, self.requested = name, size, requested
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if "list-type" not in self.path:
            self.requested.append(self.path)
        body = (
            "<ListBucketResult><IsTruncated>false</IsTruncated><Contents>"
            f"<Key>{self.name}</Key><Size>{self.size}</Size><ETag>&quot;1&quot;</ETag>"
            "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("name", "size", "output"),
    [
        ("unet/../../evil.json", 9, "any/model"),
        ("unet/../../../evil.json", 9, "any/model"),
        (
            "unet/huge.safetensors",
            10**16,
            r"10000000\.0 GB, .* ORIGINALITY_CACHE",
        ),
    ],
)
def test_invalid_listings_are_refused(
    s3: str, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int, output: str
) -> None:
    requested: list[str] = []
    with serving(partial(Liar, f"model/{name}", size, requested)) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises((StoreError, FetchError), match=output) as caught:
            local_copy("s3://any/model", PARTS)
    assert "\n" not in str(caught.value)
    assert not requested and not list(cache.parent.rglob("evil.json"))


def test_names_that_need_no_copy(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    for name in ("shapes", "org/name", str(tmp_path), "nowhere", "./no/where", "/no/where"):
        assert local_copy(name, PARTS) is None
    assert not cache.exists()
