"""Checks of an installation, and their findings.

Each check examines one thing and returns a :class:`Finding` or raises. A check that depends on one that
failed is skipped. The checks themselves are in :mod:`originality.doctor` and :mod:`cluster.doctor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from originality.contract.scorer import Unusable

State = Literal["ok", "warning", "failed", "skipped"]

UNEXPECTED = "unexpected error: please report it with the output of --json"


@dataclass(frozen=True)
class Finding:
    """The result of a check."""

    state: State
    found: str
    """One line."""
    fix: str | None = None
    """What to do; warnings and failures have one."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """The measured values, for programs."""
    name: str = ""
    """Name of the check."""

    def row(self) -> dict[str, Any]:
        """The finding as plain JSON values."""
        row = asdict(self)
        return {name: row[name] for name in ("name", "state", "found", "fix", "numbers")}


def ok(found: str, **numbers: Any) -> Finding:
    """A check that passed."""
    return Finding("ok", found, None, numbers)


def warning(found: str, fix: str, **numbers: Any) -> Finding:
    """A check that passed with a reservation, and what to do about it."""
    return Finding("warning", found, fix, numbers)


def failed(found: str, fix: str, **numbers: Any) -> Finding:
    """A check that failed, and what to do about it."""
    return Finding("failed", found, fix, numbers)


def skipped(why: str) -> Finding:
    """A check that was not made, and why."""
    return Finding("skipped", why)


@dataclass(frozen=True)
class Check:
    """A check of one thing."""

    name: str
    look: Callable[[], Finding]
    needs: tuple[str, ...] = ()
    """Names of earlier checks. If one of them failed or was skipped, this one is skipped."""
    fix: str = UNEXPECTED
    """The fix to report for an error that does not state its own."""


def examine(
    checks: Sequence[Check],
    with_fix: tuple[type[Exception], ...] = (),
    report: Callable[[str], None] = lambda name: None,
) -> Iterator[Finding]:
    """Run the checks in order.

    Args:
        with_fix: errors whose message ends with the fix, after its last semicolon or, for Unusable without
            one, after its last colon.
        report: called with the name of each check as it begins.
    """
    unavailable: set[str] = set()
    for check in checks:
        missing = next((name for name in check.needs if name in unavailable), None)
        if missing is not None:
            finding = skipped(f"it needs {missing}")
        else:
            report(check.name)
            finding = _run(check, with_fix)
        if finding.state == "failed" or missing is not None:
            unavailable.add(check.name)
        yield replace(finding, name=check.name)


def _run(check: Check, with_fix: tuple[type[Exception], ...]) -> Finding:
    try:
        return check.look()
    except with_fix as error:
        message = " ".join(str(error).split())
        found, separator, fix = message.rpartition("; ")
        if not separator and isinstance(error, Unusable):  # always states a fix
            found, separator, fix = message.rpartition(": ")
        return failed(found, fix) if separator else failed(message, check.fix)
    except Exception as error:  # an unexpected error must not stop the other checks
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        return failed(f"{type(error).__name__}: {reason}", check.fix)
