"""How a job ends: its exit code, and one line to a person instead of a traceback."""

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
from jobs.commandline import process

ALL_JUDGED = 0
ENGINE_FAILED = 1
BAD_SETTINGS = 2
SOME_UNJUDGED = 3
NOBODY_READS = 141
"""As a shell says of any command whose output was closed, by ``| head`` say."""

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
"""By the names of our own exceptions, the most special of which counts: importing them all takes seconds, and
may be what failed."""


class Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line, like every other error here."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"originality: {process.one_line(message)}; see {self.prog} --help\n")
        sys.exit(BAD_SETTINGS)


def add_version(parser: argparse.ArgumentParser) -> None:
    try:
        installed = version("originality")
    except PackageNotFoundError:
        installed = "(not installed)"
    parser.add_argument("--version", action="version", version=f"originality {installed}")


def add_commands(parser: Parser, jobs: Sequence[tuple[str, str, str]], argv: Sequence[str]) -> None:
    """A subcommand for each job: its name, its module, and what it does in a few words. Only the one that
    ``argv`` names is imported; a module that has no ``run`` has commands of its own."""
    names = [name for name, _, _ in jobs]
    chosen = next((given for given in argv if not given.startswith("-")), None)
    options = [given for given in argv if given.startswith("-")]
    if chosen is None and not options:
        parser.error(f"name a command: {', '.join(names)}")
    if chosen is not None and chosen not in names:
        close = difflib.get_close_matches(chosen, names, n=1)
        meant = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}"
        parser.error(f"{chosen!r} is no command; {meant}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module, what in jobs:
        if name != chosen:
            commands.add_parser(name, help=what)
            continue
        job = importlib.import_module(module)
        plain = argparse.RawDescriptionHelpFormatter
        command = commands.add_parser(name, help=what, description=job.__doc__, formatter_class=plain)
        add_version(command)
        if hasattr(job, "run"):
            job.add_arguments(command)
            command.set_defaults(run=job.run)
        else:
            add_commands(command, job.JOBS, argv[argv.index(name) + 1 :])


def main(
    prog: str,
    description: str | None,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    job: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None = None,
) -> int:
    """One job as a command of its own: parse, run, exit code."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog=prog, description=description, formatter_class=plain)
    add_version(parser)
    add_arguments(parser)

    def parsed() -> int:
        return carry_out(job, parser.parse_args(argv))

    return run(parsed)


def carry_out(job: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """The job's exit code. Whatever it prints has no secret in it, and nothing that a terminal would obey."""
    check_current_folder()
    from originality.contract.printable import (
        printable_streams,  # what only asks for help imports nothing of ours
    )

    with printable_streams():
        return job(arguments)


def run(job: Callable[[], int]) -> int:
    """The job's exit code. An exception that is nobody's mistake but ours passes through.

    SIGTERM counts as Ctrl-C here, also before there is a run that it could stop in good order.
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
        code = NOBODY_READS
    except OSError as error:  # of stdout, or of a file without a name
        if error.errno not in process.MACHINE_ERRORS:
            raise
        process.discard_stdout()
        code = _say(f"cannot write output or a temporary file: {error.strerror}", BAD_SETTINGS)
    return process.end(code) if main_thread else code


def _run(job: Callable[[], int]) -> int:
    try:
        return job()
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        return _say(INTERRUPTED_MESSAGE, INTERRUPTED)
    except Exception as error:
        code = code_of(error)
        if code == INTERRUPTED:
            return _say(f"{str(error) or 'interrupted'}; run the same command again to resume", code)
        if code is not None:
            return _say(error, code)
        if failure := process.import_failure(error):
            return _say(failure, BAD_SETTINGS)
        if isinstance(error, OSError) and error.errno in process.MACHINE_ERRORS and error.filename:
            return _say(f"{error.filename}: {error.strerror}", BAD_SETTINGS)
        from originality.contract.faults import is_machine_fault, line_of

        of_stdout = isinstance(error, OSError) and error.errno in process.MACHINE_ERRORS  # perhaps
        if is_machine_fault(error) and not of_stdout:
            return _say(f"{line_of(error)}; mend that and run the same command again", ENGINE_FAILED)
        raise


def code_of(error: BaseException) -> int | None:
    """The exit code of an exception that has a line for a person; None of any other."""
    for kind in type(error).__mro__:
        if kind.__name__ in _CODES and kind.__module__.partition(".")[0] in process.OURS:
            return _CODES[kind.__name__]
    return None


def check_current_folder() -> None:
    """Ends the process where there is none: Ray, and every relative path, needs one."""
    try:
        Path.cwd()
    except FileNotFoundError:
        _say("the current folder was deleted; change to another one (cd) and start again", BAD_SETTINGS)
        raise SystemExit(BAD_SETTINGS) from None


def _say(message: object, code: int) -> int:
    sys.stderr.write(f"originality: {process.one_line(message)}\n")
    return code
