"""Check that everything an audit needs is present and works here: a table, with a fix below each failure.

``originality doctor`` takes the same settings as the audit.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster import doctor as engine
from cluster.ray_runtime.runtime import EngineError
from cluster.settings import ClusterSettings
from cluster.storage.store import StoreError
from jobs.commandline import exits, options, process
from originality.contract.config import SettingsError
from originality.contract.faults import MachineFault
from originality.contract.findings import Finding, examine
from originality.contract.printable import unescaped
from originality.contract.scorer import Unusable
from originality.settings.audit import AuditSettings
from originality.settings.parts import SHIPPED_MODEL, DistanceSettings, InDistributionSettings, ModelSettings

if TYPE_CHECKING:
    from originality.settings.local_weights import Copies

_log = logging.getLogger(__name__)

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}
_PIPE_WIDTH = 100_000
"""Width of the table if stdout is no terminal, so that each row stays on one line."""

_EXPECTED = (Unusable, StoreError, MachineFault, EngineError)
"""Errors that become a finding, as their message says what to do."""

_PACKAGED = {
    "model": ModelSettings(),
    "distance": DistanceSettings(metric="elements"),
    "in_distribution": InDistributionSettings(check="none"),
}
"""Settings whose weights come with the package."""


def copies_of(settings: AuditSettings, part: str) -> Copies:
    """Local copies of the weights that one part of the settings names.

    The other parts are replaced by settings whose weights come with the package, so that unavailable weights
    of one part do not prevent checks of the others.
    """
    from jobs.auditing.weights_here import copies_here

    others = {name: packaged for name, packaged in _PACKAGED.items() if name != part}
    return copies_here(settings.model_copy(update=others))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("--out", help="run folder of the audit: check that it can be written")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="S",
        help="time for measuring the speed, in seconds (default: 10)",
    )
    parser.add_argument(
        "--dreamsim-pictures",
        type=Path,
        metavar="DIR",
        help="folder with ref_1.png, img_a_1.png and img_b_1.png from DreamSim's repository: compare their "
        "distances with the published ones",
    )
    options.add_settings_arguments(parser)
    options.add_cluster_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    settings = options.settings_of(arguments, any_domain=True)
    how = options.cluster_settings_of(arguments)
    if not 0 < arguments.seconds < float("inf"):
        raise SettingsError(f"--seconds {arguments.seconds:g}: give a number above 0")
    with redirect_stdout(sys.stderr):  # some libraries print to stdout, where the table or JSON belongs
        findings = look(settings, how, arguments.out, arguments.seconds, arguments.dreamsim_pictures)
    if arguments.json:
        print(json.dumps(report(settings, findings), indent=2))
    else:
        show(findings)
    return exits.BAD_SETTINGS if any(f.state == "failed" for f in findings) else exits.ALL_JUDGED


def look(
    settings: AuditSettings,
    how: ClusterSettings,
    out: str | None,
    seconds: float,
    dreamsim_pictures: Path | None = None,
) -> list[Finding]:
    """All findings. Each check is logged before it runs."""
    # Imported late: it takes seconds, and mistakes in flags should be reported before.
    from originality.doctor.science import Checkup

    science = Checkup(
        settings,
        copies=lambda part: copies_of(settings, part),
        price=lambda gpu: engine.price(how, gpu),
        seconds=seconds,
        dreamsim_pictures=dreamsim_pictures,
    )
    checks = [
        *science.of_machine(),
        *engine.of_disk(_needs_download(settings)),
        *science.of_weights(),
        *engine.of_run(out, how),
    ]
    with engine.impatient():
        return list(examine(checks, _EXPECTED, lambda name: _log.info("checking %s", name)))


def _needs_download(settings: AuditSettings) -> bool:
    """Whether some weights are in a bucket, on the hub or on the web."""
    distance = settings.distance
    named = [settings.model.path, distance.folder, settings.in_distribution.folder]
    elsewhere = [n for n in named if n and n != SHIPPED_MODEL and ("://" in n or not Path(n).exists())]
    return bool(elsewhere) or (distance.metric == "dreamsim" and not distance.folder)


def report(settings: AuditSettings, findings: Sequence[Finding]) -> dict[str, object]:
    """The findings as ``--json`` prints them."""
    return {
        "ok": all(f.state != "failed" for f in findings),
        "model": settings.model.path,
        "settings_digest": settings.digest(),
        "findings": [finding.row() for finding in findings],
    }


def show(findings: Sequence[Finding]) -> None:
    """Print the findings as a table: coloured and as wide as the terminal, or one line per row in a pipe."""
    terminal = sys.stdout.isatty()
    table = Table.grid(padding=(0, 2, 0, 0))
    for finding in findings:
        state = Text(finding.state, style=_COLOURS[finding.state])
        table.add_row(Text(finding.name), state, Text(process.one_line(finding.found)))
        if finding.fix:
            table.add_row("", "", Text(f"fix: {process.one_line(finding.fix)}", style="bold"))
    console = Console(width=None if terminal else _PIPE_WIDTH)
    with console.capture() as drawn:
        console.print(table)
        console.print(_counts_text(findings), highlight=False)
    out = unescaped(sys.stdout)  # the texts are printable already
    for line in drawn.get().splitlines():
        out.write(f"{line.rstrip()}\n")


def _counts_text(findings: Sequence[Finding]) -> str:
    counts = Counter[str](finding.state for finding in findings)
    return ", ".join(f"{counts[state]} {state}" for state in _COLOURS if counts[state])


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m jobs.doctor``; the exit code."""
    return exits.main("originality doctor", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
