"""WebDatasets as inputs: which files are shards, their order, their columns, and a plan that is resumed."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.inputs import container_listings, listing, shards, webdataset
from cluster.inputs.container_listings import ContainerListing
from cluster.inputs.decoder import Decoder
from cluster.inputs.identities import image_id_of
from cluster.inputs.kept_listings import KeptListings
from cluster.inputs.listing import scan
from cluster.inputs.locations import Broken, Container, Member
from cluster.inputs.manifest import InputError, Manifest
from cluster.inputs.shards import list_shard
from cluster.inputs.sources import Unreadable, read_image
from cluster.run.folder import plan
from cluster.run.layout import SHARD_LISTINGS
from cluster.storage.store import Outage, Store, open_store
from tests.support.image_bytes import noise, saved
from tests.support.listed_paths import data_of, paths
from tests.support.tars import header, padded, shard

ONE = shard({"1.png": b"1", "1.txt": b"one"})


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder or prefix with four shards."""
    root = str(tmp_path / "in")
    if request.param == "s3":
        root = f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}"
    store = open_store(root)
    for number in range(3):
        store.write(f"{number:02}.tar", shard({f"{number}.png": b"%d" % number, f"{number}.txt": b"x"}))
    store.write("more/b.tar", shard({"b.png": b"b", "b.json": b'{"n": 2.5}'}))
    store.write("notes.md", b"x")
    return root


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", ["00.tar#0.png", "01.tar#1.png", "02.tar#2.png", "more/b.tar#b.png"]),
        ("/01.tar", ["01.tar#1.png"]),
        ("/*.tar", ["00.tar#0.png", "01.tar#1.png", "02.tar#2.png"]),
        ("/**", ["00.tar#0.png", "01.tar#1.png", "02.tar#2.png", "more/b.tar#b.png"]),
        ("/{02..00}.tar", ["02.tar#2.png", "01.tar#1.png", "00.tar#0.png"]),
        ("/{01,more/b,01}.tar", ["01.tar#1.png", "more/b.tar#b.png"]),
        ("/{0[12],more/*}.tar", ["01.tar#1.png", "02.tar#2.png", "more/b.tar#b.png"]),
    ],
)
def test_shards_are_found(place: str, pattern: str, found: list[str]) -> None:
    manifest = scan(f"{place}{pattern}")
    assert (manifest.source, paths(manifest)) == (place, found)
    assert data_of(manifest) == [path[-5:-4].encode() for path in found]
    again = Manifest.from_parquet(manifest.to_parquet())
    assert again.table == manifest.table and again.location(0) == manifest.location(0)


def test_columns_of_all_shards(place: str) -> None:
    manifest = scan(place)
    assert manifest.extra == ["txt", "n"]
    assert [manifest.columns(n) for n in range(4)] == [{"txt": "x"}] * 3 + [{"n": 2.5}]
    assert manifest.skipped_text == "skipped 1 file: 1 .md"


def test_a_folder_with_loose_images_is_not_a_webdataset(place: str) -> None:
    open_store(place).write("loose.png", b"x")
    manifest = scan(place)
    assert paths(manifest) == ["loose.png"] and not manifest.has_containers
    assert manifest.skipped_kinds == {".tar": 4, ".md": 1}
    assert len(scan(f"{place}/*.tar")) == 3


def test_a_file_with_braces_in_its_name_is_taken_as_a_name(tmp_path: Path) -> None:
    (tmp_path / "{1,2}.tar").write_bytes(ONE)
    assert paths(scan(f"{tmp_path}/{{1,2}}.tar")) == ["{1,2}.tar#1.png"]


def test_broken_and_missing_shards_are_rows(place: str) -> None:
    store = open_store(place)
    store.write("01.tar", header(b"1.png", 1) + padded(b"1") + b"x" * 512)
    store.write("02.tar", b"not a tar")
    manifest = scan(f"{place}/{{00..03}}.tar")
    assert paths(manifest) == ["00.tar#0.png", "01.tar#1.png", "01.tar", "02.tar", "03.tar"]
    broken = manifest.location(2)
    assert isinstance(broken, Broken) and broken.container == f"{place}/01.tar"
    assert broken.problem.startswith(f"{place}/01.tar: ") and "byte 1024 is damaged" in broken.problem
    codes = []
    for number in range(2, 5):
        with pytest.raises(Unreadable) as unreadable:
            read_image(manifest.uri(number), lambda size: None, manifest.location(number))
        assert manifest.uri(number) in unreadable.value.message
        codes.append(unreadable.value.reason_code)
    assert codes == ["unreadable", "unreadable", "missing"]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "A.TAR.ZST", "a.tar.bz2", "a.txz"])
def test_compressed_tars_are_refused_with_the_fix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    for given in (str(tmp_path / name), str(tmp_path), f"{tmp_path}/{{x.tar,{name}}}"):
        with pytest.raises(InputError, match=r"decompress it to \.tar") as refusal:
            scan(given)
        assert name in str(refusal.value) or given in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ("none.tar", "does not exist"),
        ("{1,2}.tar", "does not exist"),
        ("empty.tar", r"no member .* skipped 1 \.txt"),
        ("bad.tar", "no image .*bad.tar: .*not a tar file"),
        ("{1,2}.png", r"braces .*\.tar"),
        ("{0..99999999}.tar", "more than 1000000 names"),
        ("{x*,y*}.tar", r"matches no \.tar file"),
    ],
)
def test_nothing_to_judge(tmp_path: Path, given: str, refusal: str) -> None:
    (tmp_path / "empty.tar").write_bytes(shard({"a.txt": b"x"}))
    (tmp_path / "bad.tar").write_bytes(b"x" * 1000)
    with pytest.raises(InputError, match=refusal) as caught:
        scan(f"{tmp_path}/{given}")
    assert "\n" not in str(caught.value)


def test_types_of_columns_agree_between_shards(tmp_path: Path) -> None:
    for number, value in enumerate(("1", "2.5", '"many"', "null")):
        data = shard({"a.png": b"x", "a.json": b'{"n": %s, "offset": 7}' % value.encode()})
        (tmp_path / f"{number}.tar").write_bytes(data)
    manifest = scan(str(tmp_path))
    assert manifest.table["n"].to_pylist() == ["1", "2.5", "many", None]
    assert manifest.columns(3) == {"json.offset": 7} and manifest.extra == ["n", "json.offset"]


class Listing:
    """Lists shards; fails at some."""

    def __init__(self, fails: Callable[[str], bool] = lambda uri: False) -> None:
        self.listed: list[str] = []
        self._fails = fails

    def __call__(self, container: Container) -> ContainerListing:
        name = container.uri.rpartition("/")[2]
        if self._fails(name):
            raise Outage("the store is out")
        self.listed.append(name)
        return list_shard(container)


def _shards(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:02}.tar").write_bytes(shard({f"{number}.png": b"x", f"{number}.cls": b"1"}))


def _kept(store: Store) -> list[str]:
    return [found.path for found in store.list(SHARD_LISTINGS)]


def test_an_interrupted_plan_resumes_with_the_remaining_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _shards(tmp_path / "in", 30)
    store = open_store(str(tmp_path / "run"))
    first = Listing(lambda name: name == "29.tar")
    monkeypatch.setattr(webdataset, "list_shard", first)
    with pytest.raises(Outage):
        plan(str(tmp_path / "in"), store, {})
    assert len(_kept(store)) == len(first.listed) == 29
    damaged = _kept(store)[0]
    store.write(damaged, store.read(damaged)[:-20])
    second = Listing()
    monkeypatch.setattr(webdataset, "list_shard", second)
    run = plan(str(tmp_path / "in"), store, {})
    assert len(second.listed) == 2 and "29.tar" in second.listed
    assert run.manifest.table == scan(str(tmp_path / "in")).table
    assert _kept(store) == []


def test_a_shard_that_changed_since_it_was_kept_is_listed_again(tmp_path: Path) -> None:
    _shards(tmp_path / "in", 2)
    kept = KeptListings(open_store(str(tmp_path / "run")))
    scan(str(tmp_path / "in"), kept=kept)
    (tmp_path / "in" / "01.tar").write_bytes(shard({"new.png": b"x" * 600}))
    assert paths(scan(str(tmp_path / "in"), kept=kept)) == ["00.tar#0.png", "01.tar#new.png"]


def test_a_refused_plan_keeps_nothing(tmp_path: Path) -> None:
    _shards(tmp_path / "in", 3)
    store = open_store(str(tmp_path / "run"))

    def refuse(manifest: Manifest) -> None:
        raise ValueError("unsuited")

    with pytest.raises(ValueError, match="unsuited"):
        plan(str(tmp_path / "in"), store, {}, refuse)
    assert list(store.list()) == []


def test_loose_files_and_shards_give_the_same_images(tmp_path: Path, s3: str) -> None:
    forms = [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")]
    sizes = [(7 + 13 * n, 5 + 9 * n) for n in range(12)]
    images = {
        f"{n % 3}/{n:02}.{forms[n % 3][0]}": saved(noise("RGB", *size), forms[n % 3][1])
        for n, size in enumerate(sizes)
    }
    for name, data in images.items():
        (tmp_path / "loose" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "loose" / name).write_bytes(data)
    bucket = f"{s3}/{uuid.uuid4().hex}"
    (tmp_path / "tars").mkdir()
    for folder in range(3):
        tar = shard({name: data for name, data in images.items() if name.startswith(f"{folder}/")})
        (tmp_path / "tars" / f"{folder}.tar").write_bytes(tar)
        open_store(bucket).write(f"{folder}.tar", tar)
    results = []
    with Decoder() as decoder:
        for given in (f"{tmp_path}/loose", f"{tmp_path}/tars", bucket, f"{bucket}/{{0..2}}.tar"):
            data = data_of(scan(given))
            results.append([(image_id_of(d), decoder.decode(d).tobytes()) for d in data])
    assert len(results[0]) == 12 and all(result == results[0] for result in results)


@pytest.mark.long
def test_very_many_members_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred shards of 10,000 members each, that are nowhere but in memory."""
    block = b"".join(header(b"%06d.jpg" % n, 3) + padded(b"abc") for n in range(10_000)) + bytes(1024)
    monkeypatch.setattr(container_listings, "describe", lambda uri: Container(uri, len(block), "1"))
    requests = []

    def read(member: Member) -> bytes:
        requests.append(member.size)
        return block[member.offset : member.offset + member.size]

    monkeypatch.setattr(shards, "read_member", read)
    monkeypatch.setattr(listing, "exists", lambda uri: False)
    before = pa.total_allocated_bytes()
    manifest = scan("s3://bucket/{000..099}.tar")
    assert len(manifest) == 1_000_000 and len(requests) < 1000
    assert pa.total_allocated_bytes() - before < 300 * 2**20
    assert manifest.table["uri"].num_chunks == 20
    assert manifest.uri(999_999) == "s3://bucket/099.tar#009999.jpg"
