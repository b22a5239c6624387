"""Exit codes and one-line errors of all commands."""

from __future__ import annotations

import os
import signal
import time

import pytest

from cluster.driver.driver import EngineError, Interrupted, NoGpu
from cluster.inputs.decoder import DecoderError
from cluster.inputs.manifest import InputError
from cluster.run.folder import RunMismatch
from cluster.storage.store import NotFound, Outage
from jobs.commandline import exits
from originality.contract.config import SettingsError
from originality.contract.download import FetchError
from originality.contract.faults import MachineFault


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Interrupted(), 130),
        (KeyboardInterrupt(), 130),
        (EngineError("x"), 1),
        (NoGpu("x"), 2),
        (SettingsError("x"), 2),
        (InputError("x"), 2),
        (RunMismatch("x"), 2),
        (NotFound("x"), 2),
        (Outage("x"), 1),
        (DecoderError("x"), 1),
    ],
)
def test_exit_codes(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> int:
        raise error

    assert exits.run(job) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "token"),
    [
        (MachineFault("the card fell off its bus"), "the card fell off its bus"),
        (FetchError("hub: HTTP Error 503; start again", 503), "hub: HTTP Error 503"),
        (
            RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
            "RuntimeError: CUDA error: out of memory",
        ),
    ],
    ids=["machine", "fetch", "library"],
)
def test_an_error_of_this_machine_is_one_line(
    error: Exception, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def job() -> int:
        raise error

    assert exits.run(job) == exits.ENGINE_FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"originality: {token}") and "later" not in line


def test_bugs_of_this_program_are_not_hidden() -> None:
    def job() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        exits.run(job)


def test_sigterm_is_handled_as_an_interrupt_from_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Ray of this process may have left its own

    def job() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        return 0

    try:
        assert exits.run(job) == exits.INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(capsys.readouterr().err.splitlines()) == 1
