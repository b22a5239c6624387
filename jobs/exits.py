"""How a job ends: its exit code, and one line to a person instead of a traceback."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NoReturn

from cluster.decoder import DecoderError
from cluster.driver import EngineError, Interrupted, NoGpu
from cluster.manifest import InputError
from cluster.runfolder import RunMismatch
from cluster.store import Outage, StoreError
from originality.settings import SettingsError

ALL_JUDGED = 0
ENGINE_FAILED = 1
BAD_SETTINGS = 2
SOME_UNJUDGED = 3
INTERRUPTED = 130

_ASKED_WRONGLY = (SettingsError, InputError, RunMismatch, StoreError, NoGpu)


class Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line, like every other error here."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"originality: {message}; see {self.prog} --help\n")
        sys.exit(BAD_SETTINGS)


def add_commands(parser: argparse.ArgumentParser, jobs: Sequence[tuple[str, ModuleType, str]]) -> None:
    """A subcommand for each job: its name, its module, and what it does in a few words. A module that has no
    ``run`` has commands of its own, and the one that is chosen runs."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, job, what in jobs:
        plain = argparse.RawDescriptionHelpFormatter
        command = commands.add_parser(name, help=what, description=job.__doc__, formatter_class=plain)
        job.add_arguments(command)
        if hasattr(job, "run"):
            command.set_defaults(run=job.run)


def main(
    prog: str,
    description: str | None,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    job: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None = None,
) -> int:
    """One job as a command of its own: parse, run, exit code."""
    parser = Parser(prog=prog, description=description)
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    return run(lambda: job(arguments))


def run(job: Callable[[], int]) -> int:
    """The job's exit code. An exception that is nobody's mistake but ours passes through.

    SIGTERM counts as Ctrl-C here, also before there is a run that it could stop in good order.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return job()
    except Outage as error:
        return _say(error, ENGINE_FAILED)
    except _ASKED_WRONGLY as error:
        return _say(error, BAD_SETTINGS)
    except (EngineError, DecoderError) as error:
        return _say(error, ENGINE_FAILED)
    except (Interrupted, KeyboardInterrupt) as stop:
        return _say(f"{str(stop) or 'interrupted'}; the same command goes on from here", INTERRUPTED)


def _say(message: object, code: int) -> int:
    # a name in the message may hold anything, terminal commands included
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(message))
    sys.stderr.write(f"originality: {line}\n")
    return code
