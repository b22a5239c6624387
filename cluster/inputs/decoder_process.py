"""The child process that decodes images for :class:`cluster.inputs.decoder.Decoder`.

Parent and child exchange frames over two pipes, without pickle: nothing that a child sends is ever executed.
A request is a length and the bytes of the file. An answer is a header, then either a note and RGB pixels, or
the code and message of a rejection.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from cluster.inputs.images import FORMATS, NOTE, Limits, OutOfMemory, Rejection, decode

REQUEST = struct.Struct("<Q")
ANSWER = struct.Struct("<?III")
"""Header of an answer: whether it is an image; if so its width, height and the length of its note, otherwise
the lengths of code and message."""
READY = b"ready"
LONGEST_TEXT = 10_000
"""Bytes of a note, or of a rejection's code or message."""
OUT_OF_MEMORY = 12
"""Exit status of the child if its memory limit was too low."""
_STRIP_BYTES = 2**18
"""Bytes of the strips in which pixels are sent: small enough for the processor's cache."""


def strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of full rows that together cover an image, from the top."""
    rows = max(1, _STRIP_BYTES // (3 * image.width))
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)


def _serve(limits: Limits, seconds: float, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until the parent closes its end of the pipe, as it also does when it dies."""
    while len(header := requests.read(REQUEST.size)) == REQUEST.size:
        (size,) = REQUEST.unpack(header)
        data = requests.read(size)
        if len(data) < size:
            return
        # If the parent is killed while this process hangs in a codec, nothing else would end it.
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds)
        _answer(data, limits, answers)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(data: bytes, limits: Limits, answers: BinaryIO) -> None:
    """Decode one image and write the answer.

    Raises:
        MemoryError: decoding takes more memory than this process may use.
    """
    try:
        image = decode(data, limits)
    except OutOfMemory as error:
        raise MemoryError from error
    except Rejection as rejection:
        code, message = (text.encode(errors="replace")[:LONGEST_TEXT] for text in rejection.args)
        answers.write(ANSWER.pack(False, len(code), len(message), 0) + code + message)
    else:
        note = image.info.get(NOTE, "").encode()
        answers.write(ANSWER.pack(True, *image.size, len(note)) + note)
        for box in strips(image):
            answers.write(image.crop(box).tobytes())
    answers.flush()


def _limit_memory(memory: int) -> None:
    """Limit by how many bytes this process may grow. Systems other than Linux do not enforce such a limit."""
    if sys.platform != "linux":
        return
    import resource

    # If memory runs out, the system ends this process first, and not the one that holds the model.
    with contextlib.suppress(OSError):  # a container may forbid it
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash writes no core file
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY]
    least = min([now + memory, *limits])
    resource.setrlimit(resource.RLIMIT_AS, (least, least))


def _main(most_bytes: str, most_pixels: str, memory: str, seconds: str) -> None:
    """The child process: limit itself, report that it is ready, then answer requests."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    Image.init()
    if "AVIF" in FORMATS:
        from PIL import AvifImagePlugin

        # By default one for each core; on many cores they would take all the address space.
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    answers = os.fdopen(os.dup(1), "wb")
    _limit_memory(int(memory))
    answers.write(READY)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # C libraries may print to them, and stdout carries the answers
        os.dup2(nowhere, descriptor)
    answers.flush()
    try:
        _serve(Limits(int(most_bytes), int(most_pixels)), float(seconds), sys.stdin.buffer, answers)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BrokenPipeError:
        pass
    os._exit(0)  # nothing is left to clean up


if __name__ == "__main__":
    _main(*sys.argv[1:])
