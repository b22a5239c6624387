"""Is all there that an audit needs, and does it work here? Checks that each look at one thing.

A check looks and returns a :class:`Finding`, or raises; a check of what another has found not to work is
skipped. What is looked at is in the modules beside: :mod:`.machine`, :mod:`.science`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from originality.contract.scorer import Unusable

State = Literal["ok", "warning", "failed", "skipped"]

UNEXPECTED = "this was not foreseen: report it, with what --json says"


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    state: State
    found: str
    """One line."""
    fix: str | None = None
    """What to do about it; of warnings and failures."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """The same for programs."""
    name: str = ""
    """Of the check."""

    def row(self) -> dict[str, Any]:
        """As JSON has it."""
        row = asdict(self)
        return {name: row[name] for name in ("name", "state", "found", "fix", "numbers")}


def ok(found: str, **numbers: Any) -> Finding:
    return Finding("ok", found, None, numbers)


def warning(found: str, fix: str, **numbers: Any) -> Finding:
    return Finding("warning", found, fix, numbers)


def failed(found: str, fix: str, **numbers: Any) -> Finding:
    return Finding("failed", found, fix, numbers)


def skipped(why: str) -> Finding:
    return Finding("skipped", why)


@dataclass(frozen=True)
class Check:
    """One thing to look at."""

    name: str
    look: Callable[[], Finding]
    needs: tuple[str, ...] = ()
    """Names of earlier checks that must not have failed."""
    fix: str = UNEXPECTED
    """Where the error that it raises says none."""


def examine(
    checks: Sequence[Check],
    speaking: tuple[type[Exception], ...] = (),
    tell: Callable[[str], None] = lambda name: None,
) -> Iterator[Finding]:
    """Look at all in their order, as far as what they need is there.

    Args:
        speaking: errors whose message ends with what to do, behind its last semicolon, or else (of those that
            are Unusable) its last colon.
        tell: told each check's name when it begins.
    """
    lost: set[str] = set()
    for check in checks:
        missing = next((name for name in check.needs if name in lost), None)
        if missing is not None:
            finding = skipped(f"it needs {missing}")
        else:
            tell(check.name)
            finding = _looked(check, speaking)
        if finding.state == "failed" or missing is not None:
            lost.add(check.name)
        yield replace(finding, name=check.name)


def _looked(check: Check, speaking: tuple[type[Exception], ...]) -> Finding:
    try:
        return check.look()
    except speaking as error:
        said = " ".join(str(error).split())
        found, separator, fix = said.rpartition("; ")
        if not separator and isinstance(error, Unusable):  # which always says the fix
            found, separator, fix = said.rpartition(": ")
        return failed(found, fix) if separator else failed(said, check.fix)
    except Exception as error:  # whatever it is, the others are to be looked at too
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        return failed(f"{type(error).__name__}: {reason}", check.fix)
