"""Decoding in a process of its own: a codec that crashes, hangs or fills the memory takes only itself down.

Frames over two pipes, no pickle: the request is the file behind its length; the answer is a note and RGB
pixels behind its length and their width and height, or a rejection's code and message behind theirs. Adds to
the reason codes of ``cluster.inputs.images``: decoder-crashed, decoder-memory, decoder-timeout.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from cluster.inputs.images import FORMATS, NOTE, Limits, OutOfMemory, Rejection, check_size, decode
from originality.contract.redaction import Masked

_USUAL = Limits()
_MEMORY = 4 * 2**30
"""Bytes: enough for the costliest image within the usual limits (transparent, with a profile, turned)."""
_REQUEST = struct.Struct("<Q")
_ANSWER = struct.Struct("<?III")
"""Whether it is an image; then its width, height and length of its note, else lengths of code and message."""
_READY = b"ready"
_LONGEST_TEXT = 10_000
"""Bytes of a note, or of a rejection's code or message."""
_OUT_OF_MEMORY = 12
"""Exit status of the child where the memory that it may use was too little."""
_START_SECONDS = 300.0
"""Long for a few light imports, as Ray's workers run at low priority."""
_SLICE_SECONDS = 1.0
"""Of waiting."""
_LARGE_PIXELS = 32_000_000
"""A child that decoded more is replaced, as it would keep the memory (1 GB and more) for itself."""
_STRIP_BYTES = 2**18
"""Pixels cross in strips that stay in the processor's cache."""


class DecoderError(Masked):
    """The child process does not start: the machine's fault, never an image's."""


class Decoder:
    """Decodes images in a child process; usable from one thread at a time.

    Args:
        limits: what is refused before it is decoded.
        memory: bytes that decoding may take in the child; by default 4 GiB, more where the limits are higher
            than usual. Kept on Linux alone.
        seconds: how long one image may take.
    """

    def __init__(self, limits: Limits = _USUAL, memory: int | None = None, seconds: float = 60.0) -> None:
        self._limits = limits
        self._memory = _memory_for(limits) if memory is None else memory
        self._seconds = seconds
        self._child: _Child | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def decode(self, data: bytes) -> Image.Image:
        """As ``cluster.inputs.images.decode``. Where the child dies of it, another is asked once more.

        Raises:
            Rejection: with the reason; no other exception comes out, whatever the bytes.
            DecoderError: no child can be started.
        """
        check_size(len(data), self._limits)
        with contextlib.suppress(_Died):  # perhaps something else here killed it
            return self._ask(data)
        try:
            return self._ask(data)
        except _Died as death:
            raise Rejection("decoder-crashed", f"two decoders died of it, the last with {death}") from death

    @property
    def pid(self) -> int | None:
        """Of the child; None while there is none."""
        return self._child.pid if self._child else None

    def close(self) -> None:
        """Ends the child, which holds nothing that could be lost; another decode starts another."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _ask(self, data: bytes) -> Image.Image:
        if self._child is None or not self._child.alive():
            self.close()
            self._child = _Child(self._limits, self._memory, self._seconds)
        try:
            image = self._child.decode(data, self._limits, self._seconds)
        except Rejection:
            raise
        except BaseException as error:
            # Ctrl-C too: the rest of an answer must never be taken for the next image.
            status = self._child.kill()
            self._child = None
            if isinstance(error, TimeoutError):
                raise Rejection("decoder-timeout", f"not decoded in {self._seconds:g} seconds") from error
            if status == _OUT_OF_MEMORY:
                raise Rejection("decoder-memory", f"decoding takes over {self._memory} bytes") from error
            if isinstance(error, OSError | EOFError):
                raise _Died(f"exit status {status}") from error
            raise
        if image.width * image.height > _LARGE_PIXELS:
            self.close()
        return image


def _memory_for(limits: Limits) -> int:
    """Bytes, in proportion to the limit that was raised most."""
    return int(_MEMORY * max(1.0, limits.pixels / _USUAL.pixels, limits.bytes / _USUAL.bytes))


class _Died(Exception):  # noqa: N818 - that is what happened
    """The child is gone, or speaks nonsense."""


class _Child:
    """The parent's end of one child process."""

    def __init__(self, limits: Limits, memory: int, seconds: float) -> None:
        """Raises: DecoderError: it does not start."""
        told = [str(limits.bytes), str(limits.pixels), str(memory), str(seconds)]
        try:
            self._process = subprocess.Popen(
                # -P: no modules from the working directory, which may be full of strangers' files
                [sys.executable, "-P", "-m", "cluster.inputs.decoder", *told],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,  # of the start alone: then the child closes it
                bufsize=0,
                env=_environment(),
                process_group=0,  # Ctrl-C goes to the parent, which decides
            )
        except OSError as error:
            raise DecoderError(f"the decoder's process does not start: {error}") from error
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self.pid = self._process.pid
        self._requests = self._process.stdin.fileno()
        self._answers = self._process.stdout.fileno()
        os.set_blocking(self._requests, False)
        os.set_blocking(self._answers, False)
        self._left = _START_SECONDS
        try:
            self._read(len(_READY))
        except BaseException as error:
            self._process.kill()
            said = self._process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
            self.kill()
            if isinstance(error, OSError | EOFError):
                raise DecoderError(f"the decoder's process does not start: {said or error}") from error
            raise
        self._process.stderr.close()

    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> int:
        """Returns: the exit status, negative for a signal."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        return self._process.wait()

    def decode(self, data: bytes, limits: Limits, seconds: float) -> Image.Image:
        """Raises: Rejection; TimeoutError; OSError or EOFError where the child died."""
        self._left = seconds
        self._write(_REQUEST.pack(len(data)))
        self._write(data)
        is_image, first, second, note = _ANSWER.unpack(self._read(_ANSWER.size))
        if is_image and 0 < first * second <= limits.pixels and note <= _LONGEST_TEXT:
            image = Image.new("RGB", (first, second))
            if note:
                image.info[NOTE] = self._read(note).decode(errors="replace")
            for box in _strips(image):
                strip = self._read((box[3] - box[1]) * first * 3)
                image.paste(Image.frombytes("RGB", (first, box[3] - box[1]), strip), box)
            return image
        if not is_image and max(first, second) <= _LONGEST_TEXT:
            code, message = (self._read(size).decode(errors="replace") for size in (first, second))
            raise Rejection(code, message)
        raise EOFError("this is no answer")

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._requests, rest) :]
            except BlockingIOError:
                self._wait(self._requests, select.POLLOUT)

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            try:
                count = os.readv(self._answers, [rest])
            except BlockingIOError:
                self._wait(self._answers, select.POLLIN)
                continue
            if not count:
                raise EOFError("the decoder is gone")
            rest = rest[count:]
        return data

    def _wait(self, descriptor: int, event: int) -> None:
        """In slices, so that time in which this process itself was suspended (Ctrl-Z, a closed laptop)
        does not make an image late."""
        poll = select.poll()
        poll.register(descriptor, event)
        while self._left > 0:
            most = min(self._left, _SLICE_SECONDS)
            started = time.monotonic()
            ready = poll.poll(most * 1000)
            self._left -= min(time.monotonic() - started, most)
            if ready:
                return
        raise TimeoutError


def _strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of whole rows, from the top."""
    rows = max(1, _STRIP_BYTES // (3 * image.width))
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)


def _environment() -> dict[str, str]:
    """The parent's, with its module search path; and numpy starts no threads that nobody would use."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}


def _serve(limits: Limits, seconds: float, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers until the parent closes its end, as it does when it dies."""
    while len(header := requests.read(_REQUEST.size)) == _REQUEST.size:
        (size,) = _REQUEST.unpack(header)
        data = requests.read(size)
        if len(data) < size:
            return
        # If the parent is killed while this hangs in a codec, nobody else ends it.
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds)
        _answer(data, limits, answers)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(data: bytes, limits: Limits, answers: BinaryIO) -> None:
    """Raises: MemoryError."""
    try:
        image = decode(data, limits)
    except OutOfMemory as error:
        raise MemoryError from error
    except Rejection as rejection:
        code, message = (text.encode(errors="replace")[:_LONGEST_TEXT] for text in rejection.args)
        answers.write(_ANSWER.pack(False, len(code), len(message), 0) + code + message)
    else:
        note = image.info.get(NOTE, "").encode()
        answers.write(_ANSWER.pack(True, *image.size, len(note)) + note)
        for box in _strips(image):
            answers.write(image.crop(box).tobytes())
    answers.flush()


def _limit_memory(memory: int) -> None:
    """Lets this process grow by so many bytes. Systems other than Linux do not keep such a limit."""
    if sys.platform != "linux":
        return
    import resource

    with contextlib.suppress(OSError):  # a container may forbid it
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory ends, this goes before the model
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no file behind
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY]
    least = min([now + memory, *limits])
    resource.setrlimit(resource.RLIMIT_AS, (least, least))


def _main(most_bytes: str, most_pixels: str, memory: str, seconds: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    Image.init()
    if "AVIF" in FORMATS:
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # on many cores theirs would take all the address space
    answers = os.fdopen(os.dup(1), "wb")
    _limit_memory(int(memory))
    answers.write(_READY)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # where C libraries print what they think
        os.dup2(nowhere, descriptor)
    answers.flush()
    try:
        _serve(Limits(int(most_bytes), int(most_pixels)), float(seconds), sys.stdin.buffer, answers)
    except MemoryError:
        os._exit(_OUT_OF_MEMORY)
    except BrokenPipeError:
        pass
    os._exit(0)  # nothing to tidy up


if __name__ == "__main__":
    _main(*sys.argv[1:])
