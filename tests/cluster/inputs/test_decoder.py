"""Child processes that really die: by signals, by the memory limit, with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cluster.inputs import images
from cluster.inputs.decoder import Decoder, DecoderError, _Child
from cluster.inputs.decoder_process import ANSWER
from cluster.inputs.images import FORMATS, Limits, Rejection
from tests.support.hostile import write_good, write_hostile
from tests.support.image_bytes import noise, png, profile, rows, saved, tiff
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE, until

# Private: _Child._read and _Child._wait, because no public call is interrupted in the middle of an answer.

SMALL = saved(noise(), "PNG")
LARGE = png(8_000, 8_000, rows(8_000, bytes(8_000)), colour=0)
"""64 megapixels in a small file: slow to decode, with much memory."""
BUSY_BYTES = 150 * 2**20
"""More memory than a child holds before it decodes ``LARGE``, and less than while it does."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder


def child_of(decoder: Decoder) -> psutil.Process:
    decoder.decode(SMALL)
    return psutil.Process(decoder.pid)


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def killed_in_the_middle(patch: pytest.MonkeyPatch, deaths: int) -> list[int]:
    """Kill so many children from now on, each in the middle of ``LARGE``; their ids.

    The parent reads no byte of the answer before, so no child finishes too early.
    """
    killed: list[int] = []
    read = _Child._read

    def after_death(child: _Child, size: int) -> bytearray:
        if size == ANSWER.size and len(killed) < deaths:
            until(lambda: psutil.Process(child.pid).memory_info().rss > BUSY_BYTES)
            os.kill(child.pid, signal.SIGKILL)
            killed.append(child.pid)
        return read(child, size)

    patch.setattr(_Child, "_read", after_death)
    return killed


def rejected(decoder: Decoder, data: bytes) -> str:
    with pytest.raises(Rejection) as caught:
        decoder.decode(data)
    assert caught.value.message and "\n" not in caught.value.message
    return caught.value.reason_code


def test_hostile_files_get_the_same_code_as_in_process(shared: Decoder, tmp_path: Path) -> None:
    expected = write_hostile(tmp_path)
    got = {name: rejected(shared, (tmp_path / name).read_bytes()) for name in expected}
    assert got == expected


def test_good_files_are_the_same_to_the_pixel(shared: Decoder, tmp_path: Path) -> None:
    for name in write_good(tmp_path):
        data = (tmp_path / name).read_bytes()
        here, there = images.decode(data), shared.decode(data)
        assert (there.mode, there.size, there.info) == ("RGB", here.size, here.info), name
        assert there.tobytes() == here.tobytes(), name


def test_an_image_of_many_strips(shared: Decoder) -> None:
    for size in ((1_001, 703), (2, 200_000), (200_000, 2)):
        data = saved(noise(width=size[0], height=size[1]), "PNG")
        assert shared.decode(data).tobytes() == images.decode(data).tobytes()


@settings(max_examples=50)
@given(st.sampled_from(FORMATS), st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_damaged_files_give_an_image_or_a_rejection(
    shared: Decoder, form: str, where: int, junk: bytes
) -> None:
    data = bytearray(saved(noise(), form))
    where %= len(data)
    data[where : where + len(junk)] = junk
    try:
        assert shared.decode(bytes(data)).mode == "RGB"
    except Rejection as rejection:
        assert not rejection.reason_code.startswith("decoder-")


def test_limits_reach_the_child() -> None:
    with Decoder(Limits(pixels=2399, bytes=10_000)) as decoder:
        assert rejected(decoder, SMALL) == "too-large"
        assert rejected(decoder, bytes(10_001)) == "too-large"


def test_one_child_serves_all_images_and_ends_with_close() -> None:
    with Decoder() as decoder:
        child = child_of(decoder)
        assert child_of(decoder) == child
    assert gone(child)
    decoder.close()
    assert decoder.decode(SMALL).size == (60, 40)
    decoder.close()


def test_no_child_before_the_first_image() -> None:
    with Decoder() as decoder:
        assert rejected(decoder, b"") == "empty"
        assert decoder.pid is None


def test_a_child_killed_once_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = killed_in_the_middle(monkeypatch, 1)
    with Decoder() as decoder:
        assert decoder.decode(LARGE).size == (8_000, 8_000)
    assert len(killed) == 1


def test_a_child_killed_twice_is_a_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = killed_in_the_middle(monkeypatch, 2)
    with Decoder() as decoder:
        assert rejected(decoder, LARGE) == "decoder-crashed"
        assert len(set(killed)) == 2
        assert decoder.decode(SMALL).size == (60, 40)


def test_a_child_killed_between_images_uses_no_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    with Decoder() as decoder:
        child = child_of(decoder)
        child.kill()
        until(lambda: gone(child))
        killed_in_the_middle(monkeypatch, 1)
        assert decoder.decode(LARGE).size == (8_000, 8_000)


@pytest.mark.parametrize("data", [SMALL, SMALL + bytes(2**22)], ids=["reading", "writing"])
def test_a_hanging_child_is_killed(data: bytes) -> None:
    with Decoder(seconds=PATIENCE) as decoder:
        child = child_of(decoder)
        child.suspend()
        decoder.seconds = 0.5
        assert rejected(decoder, data) == "decoder-timeout"
        assert gone(child)
        decoder.seconds = PATIENCE
        assert decoder.decode(SMALL).size == (60, 40)


def test_too_little_memory_for_the_pixels() -> None:
    with Decoder(memory=64 * 2**20) as decoder:
        assert rejected(decoder, LARGE) == "decoder-memory"
        assert decoder.decode(SMALL).size == (60, 40)


def test_too_little_memory_for_the_file() -> None:
    with Decoder(memory=16 * 2**20) as decoder:
        assert rejected(decoder, SMALL + bytes(64 * 2**20)) == "decoder-memory"
        assert decoder.decode(SMALL).size == (60, 40)


@pytest.mark.long
def test_the_largest_images_fit_into_the_usual_memory() -> None:
    """80 megapixels of the most expensive kind: transparent, with a profile, rotated."""
    exif = Image.Exif()
    exif[274] = 6
    picture = Image.new("RGBA", (10_000, 8_000), (200, 100, 50, 128))
    data = saved(picture, "PNG", compress_level=1, exif=exif, icc_profile=profile("RGB"))
    with Decoder(seconds=PATIENCE) as decoder:
        child = child_of(decoder)
        assert decoder.decode(data).size == (8_000, 10_000)
        assert gone(child)  # it would keep the memory


@pytest.fixture
def ctrl_c_counts() -> Iterator[None]:
    """Deliver Ctrl-C, also if the tests were started in the background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_leaves_no_partial_answer(ctrl_c_counts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with Decoder() as decoder:
        child = child_of(decoder)
        child.suspend()  # so that it is waited for
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(_Child, "_wait", lambda *_: os.kill(os.getpid(), signal.SIGINT))
            decoder.decode(LARGE)
        assert gone(child)
        assert decoder.decode(SMALL).tobytes() == images.decode(SMALL).tobytes()


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_the_child_is_the_first_to_be_killed_when_memory_runs_out() -> None:
    with Decoder() as decoder:
        assert Path(f"/proc/{child_of(decoder).pid}/oom_score_adj").read_text().strip() == "1000"


def test_the_child_leaves_ctrl_c_to_the_parent() -> None:
    with Decoder() as decoder:
        child = child_of(decoder)
        assert os.getpgid(child.pid) != os.getpgid(0)  # so that a terminal's Ctrl-C does not reach it
        child.send_signal(signal.SIGINT)
        assert child_of(decoder) == child


def test_codecs_print_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    chatter = tiff(b"no LZW stream at all, by any means" * 4, compression=5)
    with pytest.raises(Rejection):
        images.decode(chatter)
    assert capfd.readouterr().err  # libtiff's
    with Decoder() as decoder:
        assert rejected(decoder, chatter) == "corrupt"
    assert capfd.readouterr() == ("", "")


def test_from_other_threads() -> None:
    with Decoder() as decoder, ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        for thread in (first, second, first):
            assert thread.submit(decoder.decode, SMALL).result().size == (60, 40)


def test_a_child_that_does_not_start_is_not_a_rejection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for python, output in (("/nowhere/python", "/nowhere/python"), ("/bin/false", "ended")):
        monkeypatch.setattr(sys, "executable", python)
        with pytest.raises(DecoderError, match=output):
            Decoder().decode(SMALL)
    monkeypatch.undo()
    (tmp_path / "PIL.py").write_text("raise ImportError('Pillow is broken here')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DecoderError, match="Pillow is broken here"):
        Decoder().decode(SMALL)


@pytest.mark.parametrize("answer", [b"\1" + b"\xff" * 8, b"\0" + b"\xff" * 8, b"\1" + bytes(8), b"?"])
def test_an_invalid_answer_is_a_crash(answer: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "answer").write_bytes(b"ready" + answer)
    liar = tmp_path / "liar"
    liar.write_text(f"#!/bin/sh\ncat '{tmp_path}/answer'; head -c 8 > /dev/null\n")
    liar.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(liar))
    assert rejected(Decoder(), SMALL) == "decoder-crashed"


PARENT = """
import sys, time
from cluster.inputs.decoder import Decoder
decoder = Decoder()
assert decoder.decode(open(sys.argv[1], "rb").read()).size == (60, 40)
print(decoder.pid, flush=True)
time.sleep(600)
"""


def test_the_child_ends_with_its_parent_and_starts_in_any_folder(tmp_path: Path) -> None:
    """The package is found by PYTHONPATH alone, in a folder with modules that must not be imported."""
    (tmp_path / "small.png").write_bytes(SMALL)
    for name in ("PIL", "numpy", "struct", "cluster"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the working directory')")
    parent = subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT, "small.png"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    with parent:
        child = psutil.Process(int(parent.stdout.readline()))
        assert not gone(child)
        parent.kill()
    until(lambda: gone(child))


def test_in_a_ray_actor(local_ray: None) -> None:
    class Reader:
        def __init__(self) -> None:
            self._decoder = Decoder()

        def read(self, data: bytes) -> tuple[tuple[int, int], int | None]:
            return self._decoder.decode(data).size, self._decoder.pid

    actor = ray.remote(num_cpus=0)(Reader).remote()
    size, pid = ray.get(actor.read.remote(SMALL))
    child = psutil.Process(pid)
    assert size == (60, 40) and not gone(child)
    ray.kill(actor)
    until(lambda: gone(child))


def raw_child(seconds: float) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "cluster.inputs.decoder_process",
        str(2**28),
        "80000000",
        str(2**32),
        str(seconds),
    ]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert child.stdout is not None and child.stdout.read(5) == b"ready"
    return child


@pytest.mark.parametrize("sent", [b"", b"\1\0", (100).to_bytes(8, "little") + b"half"])
def test_the_child_ends_when_its_requests_end(sent: bytes) -> None:
    child = raw_child(PATIENCE)
    assert child.communicate(sent, timeout=PATIENCE)[0] == b""
    assert child.returncode == 0


def test_the_child_does_not_outlive_a_hang_without_a_parent() -> None:
    with raw_child(0.1) as child:
        assert child.stdin is not None
        child.stdin.write(len(LARGE).to_bytes(8, "little") + LARGE)
        assert child.wait(timeout=PATIENCE) == -signal.SIGALRM
