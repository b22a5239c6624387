"""Puts failed or rejected images back, so that the next audit judges just those again."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cluster.run.folder import RunFolder, open_run
from cluster.run.turn import exclusive_turn
from jobs.commandline import exits, process


def retry(run: RunFolder, status: str, reason: str | None) -> Counter[str]:
    """Takes back the rows of a status, or those of one reason code; how many of each reason. What was taken
    back is kept in ``retries/``.

    Raises:
        SettingsError: somebody works on the run.
        Superseded: this process was suspended, and somebody works on the run by now.
    """

    def unwanted(row: Mapping[str, Any]) -> str | None:
        code = str(row["error_class"])
        return code if row["status"] == status and reason in (None, code) else None

    with exclusive_turn(run, process.notify) as heartbeat:
        why = {"status": status, "reason": reason, "at": datetime.now(UTC).isoformat()}
        taken = run.ledger.take_back(unwanted, ["status", "error_class"], why, before=heartbeat.check)
    return Counter(taken.values())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", help="run folder of an audit")
    parser.add_argument("--status", required=True, choices=("failed", "rejected"))
    parser.add_argument("--reason", metavar="CODE", help="only those of this error class")


def run(arguments: argparse.Namespace) -> int:
    reasons = retry(open_run(arguments.output), arguments.status, arguments.reason)
    for code, count in reasons.most_common():
        print(f"{count} {code}")
    print(f"{reasons.total()} images put back; run the same audit again to judge them")
    return exits.ALL_JUDGED


def main(argv: Sequence[str] | None = None) -> int:
    return exits.main("originality retry", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
