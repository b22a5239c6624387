"""Queue failed or rejected images of a run again, so that the next audit judges them again and no others."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cluster.run.folder import RunFolder, open_run
from cluster.run.turn import exclusive_turn
from jobs.commandline import exits

_log = logging.getLogger(__name__)


def retry(run: RunFolder, status: str, reason: str | None) -> Counter[str]:
    """Queue the images of a status again, or only those of one error class; the counts by error class.

    The rows of images that were queued again are kept in ``retries/``.

    Raises:
        SettingsError: another process is working on the run.
        Superseded: this process was suspended, and another one has taken its place since.
    """

    def unwanted(row: Mapping[str, Any]) -> str | None:
        code = str(row["error_class"])
        return code if row["status"] == status and reason in (None, code) else None

    with exclusive_turn(run, _log.warning) as heartbeat:
        why = {"status": status, "reason": reason, "at": datetime.now(UTC).isoformat()}
        taken = run.ledger.queue_again(unwanted, ["status", "error_class"], why, before=heartbeat.check)
    return Counter(taken.values())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("output", help="run folder of an audit")
    parser.add_argument(
        "--status", required=True, choices=("failed", "rejected"), help="put images of this status back"
    )
    parser.add_argument("--reason", metavar="CODE", help="only images with this error class")


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    reasons = retry(open_run(arguments.output), arguments.status, arguments.reason)
    for code, count in reasons.most_common():
        print(f"{count} {code}")
    print(f"{reasons.total()} images queued again; run the same audit command again to judge them")
    return exits.ALL_JUDGED


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m jobs.retry``; the exit code."""
    return exits.main("originality retry", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
