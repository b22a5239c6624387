"""How a command ends: an exit code, and one line on stderr instead of a traceback."""

from __future__ import annotations

import argparse
import difflib
import importlib
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from jobs import INTERRUPTED, INTERRUPTED_MESSAGE
from jobs.commandline import logs, process

ALL_JUDGED = 0
ENGINE_FAILED = 1
BAD_SETTINGS = 2
SOME_UNJUDGED = 3
OUTPUT_CLOSED = 141
"""Exit code of a command whose output was closed, for example by ``| head``; shells use 128 + SIGPIPE."""

_CODES = {
    "DecoderError": ENGINE_FAILED,
    "EngineError": ENGINE_FAILED,
    "InputError": BAD_SETTINGS,
    "Interrupted": INTERRUPTED,
    "MachineFault": ENGINE_FAILED,
    "Outage": ENGINE_FAILED,
    "Refused": BAD_SETTINGS,
    "RunMismatch": BAD_SETTINGS,
    "SettingsError": BAD_SETTINGS,
    "StoreError": BAD_SETTINGS,
    "Superseded": INTERRUPTED,
}
"""Exit codes by the name of an exception class of ours; the most derived class that is listed counts.

Names instead of classes: importing all of them takes seconds, and the import may be what failed."""


class Parser(argparse.ArgumentParser):
    """An argparse parser that reports a mistake in one line, like every other error of the commands."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with the code for bad settings; argparse prints its usage too."""
        sys.stderr.write(f"originality: {process.one_line(message)}; see {self.prog} --help\n")
        sys.exit(BAD_SETTINGS)


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add ``--version``."""
    try:
        installed = version("originality")
    except PackageNotFoundError:
        installed = "(not installed)"
    parser.add_argument("--version", action="version", version=f"originality {installed}")


def add_commands(parser: Parser, jobs: Sequence[tuple[str, str, str]], argv: Sequence[str]) -> None:
    """Add a subcommand for each job.

    Only the module of the command that ``argv`` names is imported, because importing all takes seconds. A
    module without ``run`` is a group of commands: its ``JOBS`` become subcommands.

    Args:
        jobs: name, module and short description of each.
    """
    names = [name for name, _, _ in jobs]
    chosen = next((given for given in argv if not given.startswith("-")), None)
    options = [given for given in argv if given.startswith("-")]
    if chosen is None and not options:
        parser.error(f"name a command: {', '.join(names)}")
    if chosen is not None and chosen not in names:
        close = difflib.get_close_matches(chosen, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known commands: {', '.join(names)}"
        parser.error(f"unknown command {chosen!r}; {hint}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module, what in jobs:
        if name != chosen:
            commands.add_parser(name, help=what)
            continue
        job = importlib.import_module(module)
        plain = argparse.RawDescriptionHelpFormatter
        command = commands.add_parser(
            name, help=what, description=_plain_text(job.__doc__), formatter_class=plain
        )
        add_version(command)
        if hasattr(job, "run"):
            job.add_arguments(command)
            logs.add_level(command)
            command.set_defaults(run=job.run)
        else:
            add_commands(command, job.JOBS, argv[argv.index(name) + 1 :])


def _plain_text(docstring: str | None) -> str | None:
    """A docstring for --help: without the marks of reStructuredText."""
    return docstring and docstring.replace("``", "").replace("::\n", ":\n")


def main(
    prog: str,
    description: str | None,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    job: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None = None,
) -> int:
    """Run one job as a command: parse the arguments, run it, return the exit code."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog=prog, description=_plain_text(description), formatter_class=plain)
    add_version(parser)
    add_arguments(parser)
    logs.add_level(parser)

    def parsed() -> int:
        return carry_out(job, parser.parse_args(argv))

    return run(parsed)


def carry_out(job: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Run a job with logging, and with output streams that mask secrets and escape control characters.

    Returns:
        Its exit code.
    """
    check_current_folder()
    # Imported here so that --help, which does not come this far, imports none of the packages.
    from originality.contract.printable import printable_streams

    with printable_streams():
        logs.set_up(arguments.log_level)
        return job(arguments)


def run(job: Callable[[], int]) -> int:
    """Run a job; its exit code. An exception that is a bug of this program passes through as a traceback.

    SIGTERM is handled like Ctrl-C, also before there is a run to stop.
    """
    main_thread = threading.current_thread() is threading.main_thread()
    if main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        try:
            code = _run(job)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        process.discard_stdout()
        code = OUTPUT_CLOSED
    except OSError as error:  # raised for stdout, or for a temporary file that has no name
        if error.errno not in process.MACHINE_ERRORS:
            raise
        process.discard_stdout()
        code = _fail(f"cannot write output or a temporary file: {error.strerror}", BAD_SETTINGS)
    return process.end(code) if main_thread else code


def _run(job: Callable[[], int]) -> int:
    try:
        return job()
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        return _fail(INTERRUPTED_MESSAGE, INTERRUPTED)
    except Exception as error:
        code = code_of(error)
        if code == INTERRUPTED:
            return _fail(f"{str(error) or 'interrupted'}; run the same command again to resume", code)
        if code is not None:
            return _fail(error, code)
        if failure := process.import_failure(error):
            return _fail(failure, BAD_SETTINGS)
        if isinstance(error, OSError) and error.errno in process.MACHINE_ERRORS and error.filename:
            return _fail(f"{error.filename}: {error.strerror}", BAD_SETTINGS)
        from originality.contract.faults import is_machine_fault, line_of

        # An OSError without a file name may be of stdout: run() reports it, as writing there failed.
        may_be_stdout = isinstance(error, OSError) and error.errno in process.MACHINE_ERRORS
        if is_machine_fault(error) and not may_be_stdout:
            return _fail(
                f"{line_of(error)}; fix that and run the same command again to resume", ENGINE_FAILED
            )
        raise


def code_of(error: BaseException) -> int | None:
    """Exit code of an exception whose message is meant for the user; None for any other exception."""
    for kind in type(error).__mro__:
        if kind.__name__ in _CODES and kind.__module__.partition(".")[0] in process.OURS:
            return _CODES[kind.__name__]
    return None


def check_current_folder() -> None:
    """End the process if the current folder was deleted: Ray and all relative paths need it."""
    try:
        Path.cwd()
    except FileNotFoundError:
        _fail(
            "the current folder was deleted; change to another one (cd) and run the command again",
            BAD_SETTINGS,
        )
        raise SystemExit(BAD_SETTINGS) from None


def _fail(message: object, code: int) -> int:
    """Write a message as one line to stderr; returns the exit code."""
    sys.stderr.write(f"originality: {process.one_line(message)}\n")
    return code
