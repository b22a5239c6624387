"""The process that a schedule starts: the audit with a cheap scorer (``chain``), or a command of the product,
with short time limits and a clock that may be wrong. See :func:`command_line`."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping, Sequence

import pyarrow as pa

from cluster.inputs.manifest import Selection
from cluster.settings import ClusterSettings
from jobs import cli, report, retry, status  # noqa: F401 - limits.shorten sees what is imported
from jobs.auditing import audit_run
from jobs.auditing.prepare import PreparedAudit
from jobs.commandline import exits
from originality.settings.presets import load_settings
from tests.chaos import chain, clock, limits

WORKERS = 2
OF_THE_CHAIN = (pa.field("chain", pa.string()), pa.field("mark", pa.string()))
"""Columns of a row of the chain, beside those of an audit."""

# argv[0] makes the product prepare this process as it does its own command's, before the heavy imports.
_LAUNCH = (
    "import sys; sys.argv[0] = 'originality'; import jobs; "
    "sys.stderr.write('started\\n'); from tests.chaos.job import main; sys.exit(main(sys.argv[1:]))"
)


def command_line(*arguments: str, clock: float = 0.0, clocks: Mapping[str, float] | None = None) -> list[str]:
    """``chain INPUT OUTPUT [SHARD]``, or a command of the product.

    Args:
        clock: seconds by which the process's clock is wrong.
        clocks: by machine, those of its workers'.
    """
    return [sys.executable, "-c", _LAUNCH, str(clock), json.dumps(dict(clocks or {})), *arguments]


def main(argv: Sequence[str]) -> int:
    wrong_by, clocks, *arguments = argv
    limits.shorten("cluster", "jobs")
    if float(wrong_by):
        clock.set_forward(float(wrong_by))
    if arguments[0] != "chain":
        return cli.main(arguments)
    return exits.run(lambda: audit(json.loads(clocks), *arguments[1:]))


def audit(clocks: Mapping[str, float], source: str, output: str, shard: str = "1/1") -> int:
    """Runs the audit as the command does, including its report."""
    audit_run.SCHEMA = functools.reduce(pa.Schema.append, OF_THE_CHAIN, audit_run.SCHEMA)
    settings = load_settings(flags={"model": {"device": "cpu"}})
    science = PreparedAudit(settings, functools.partial(chain.build, clocks), {})
    how = ClusterSettings(max_workers=WORKERS, snapshot_every=0.1, stop_grace=5)
    number, of = map(int, shard.split("/"))
    return audit_run.audit(science, source, output, how=how, selection=Selection(shard=(number, of)))
