"""Decodes images in a child process: a codec that crashes, hangs or fills the memory ends only that process.

The worker holds a loaded model, and images that other threads are working on; none of that may be lost to one
hostile file. :mod:`cluster.inputs.decoder_process` is the child's side. To the reason codes of
``cluster.inputs.images`` this adds decoder-crashed, decoder-memory and decoder-timeout.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from cluster.inputs import decoder_process
from cluster.inputs.images import NOTE, Limits, Rejection, check_size
from originality.contract.redaction import Masked

_USUAL = Limits()
_MEMORY = 4 * 2**30
"""Bytes: enough for the most expensive image within the usual limits (transparent, with a profile,
rotated)."""
START_SECONDS = 300.0
"""Bound on the start of the child. Long for a few light imports, because Ray's workers run at low
priority."""
_SLICE_SECONDS = 1.0
"""Length of one wait (see _Child._wait)."""
_LARGE_PIXELS = 32_000_000
"""A child that decoded a larger image is replaced, because it would keep the memory (1 GB and more)."""


class DecoderError(Masked):
    """The child process could not be started: the machine's fault, never an image's."""


class Decoder:
    """Decodes images in a child process; usable from one thread at a time.

    Args:
        limits: beyond which a file is rejected before it is decoded. memory: bytes that decoding may take in
            the child; by default 4 GiB, more if the limits are higher than
            usual. Enforced on Linux only.
        seconds: how long the decoding of one image may take.
    """

    def __init__(self, limits: Limits = _USUAL, memory: int | None = None, seconds: float = 60.0) -> None:
        self._limits = limits
        self._memory = _memory_for(limits) if memory is None else memory
        self.seconds = seconds
        """How long the decoding of one image may take; a change applies from the next image."""
        self._child: _Child | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def decode(self, data: bytes) -> Image.Image:
        """Decode an image like ``cluster.inputs.images.decode``. If the child dies, a new one tries once
        more.

        Raises:
            Rejection: with the reason. No other exception is raised because of the bytes.
            DecoderError: no child process can be started.
        """
        check_size(len(data), self._limits)
        # The first death may have another cause, such as the system's out-of-memory killer. The second one is
        # taken for the image's fault.
        with contextlib.suppress(_Died):
            return self._decode_once(data)
        try:
            return self._decode_once(data)
        except _Died as death:
            raise Rejection(
                "decoder-crashed", f"two decoder processes died of it, the last with {death}"
            ) from death

    @property
    def pid(self) -> int | None:
        """Process id of the child; None if none is running."""
        return self._child.pid if self._child else None

    def close(self) -> None:
        """End the child. It has no state to lose; the next ``decode`` starts a new one."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _decode_once(self, data: bytes) -> Image.Image:
        """Decode in the current child, or a new one.

        Raises:
            Rejection: with the reason.
            _Died: the child died.
        """
        if self._child is None or not self._child.alive():
            self.close()
            self._child = _Child(self._limits, self._memory, self.seconds)
        try:
            image = self._child.decode(data, self._limits, self.seconds)
        except Rejection:
            raise
        except BaseException as error:
            # Also after KeyboardInterrupt the child must go: part of its answer is still in the pipe, and
            # would be taken for the next image.
            status = self._child.kill()
            self._child = None
            if isinstance(error, TimeoutError):
                raise Rejection("decoder-timeout", f"not decoded in {self.seconds:g} seconds") from error
            if status == decoder_process.OUT_OF_MEMORY:
                raise Rejection("decoder-memory", f"decoding takes over {self._memory} bytes") from error
            if isinstance(error, OSError | EOFError):
                raise _Died(f"exit status {status}") from error
            raise
        if image.width * image.height > _LARGE_PIXELS:
            self.close()
        return image


def _memory_for(limits: Limits) -> int:
    """Bytes for the child, in proportion to the limit that was raised most."""
    return int(_MEMORY * max(1.0, limits.pixels / _USUAL.pixels, limits.bytes / _USUAL.bytes))


class _Died(Exception):  # noqa: N818 - names what happened
    """The child is gone, or sent an invalid answer."""


class _Child:
    """The parent's end of one child process."""

    def __init__(self, limits: Limits, memory: int, seconds: float) -> None:
        """Start the child.

        Raises:
            DecoderError: it does not start.
        """
        arguments = [str(limits.bytes), str(limits.pixels), str(memory), str(seconds)]
        try:
            self._process = subprocess.Popen(
                # -P: import no modules from the working directory, which may hold untrusted files
                [sys.executable, "-P", "-m", decoder_process.__name__, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,  # for errors of the start; then the child closes it
                bufsize=0,
                env=_environment(),
                process_group=0,  # Ctrl-C must reach only the parent, which ends the child itself
            )
        except OSError as error:
            raise DecoderError(f"the decoder process does not start: {error}") from error
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self.pid = self._process.pid
        self._requests = self._process.stdin.fileno()
        self._answers = self._process.stdout.fileno()
        os.set_blocking(self._requests, False)
        os.set_blocking(self._answers, False)
        self._left = START_SECONDS
        try:
            self._read(len(decoder_process.READY))
        except BaseException as error:
            self._process.kill()
            reason = self._process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
            self.kill()
            if isinstance(error, OSError | EOFError):
                raise DecoderError(f"the decoder process does not start: {reason or error}") from error
            raise
        self._process.stderr.close()

    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def kill(self) -> int:
        """Kill the process; its exit status, negative for a signal."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        return self._process.wait()

    def decode(self, data: bytes, limits: Limits, seconds: float) -> Image.Image:
        """Send an image and receive its pixels.

        Raises:
            Rejection: the child rejected the image.
            TimeoutError: it took too long.
            OSError, EOFError: the child died, or its answer is invalid.
        """
        self._left = seconds
        self._write(decoder_process.REQUEST.pack(len(data)))
        self._write(data)
        is_image, first, second, note = decoder_process.ANSWER.unpack(self._read(decoder_process.ANSWER.size))
        # The child handled hostile bytes, so its answer is not trusted: sizes are checked before anything is
        # allocated for them.
        if is_image and 0 < first * second <= limits.pixels and note <= decoder_process.LONGEST_TEXT:
            image = Image.new("RGB", (first, second))
            if note:
                image.info[NOTE] = self._read(note).decode(errors="replace")
            for box in decoder_process.strips(image):
                strip = self._read((box[3] - box[1]) * first * 3)
                image.paste(Image.frombytes("RGB", (first, box[3] - box[1]), strip), box)
            return image
        if not is_image and max(first, second) <= decoder_process.LONGEST_TEXT:
            code, message = (self._read(size).decode(errors="replace") for size in (first, second))
            raise Rejection(code, message)
        raise EOFError("invalid answer")

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
                raise EOFError("the decoder process has ended")
            rest = rest[count:]
        return data

    def _wait(self, descriptor: int, event: int) -> None:
        """Wait until a pipe is ready, in slices of a second.

        Time in which this process itself was suspended (Ctrl-Z, a closed laptop) falls into one slice and
        counts as at most one second, so that it does not make an image late.

        Raises:
            TimeoutError: the time for this image is used up.
        """
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


def _environment() -> dict[str, str]:
    """The environment of the child: that of the parent, with its module search path, and with one thread for
    numpy, as more would only take address space."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
