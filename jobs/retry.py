"""Puts failed or rejected images back, so that the next audit judges just those again."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cluster.heartbeat import Heartbeat, pulses
from cluster.runfolder import RunFolder, open_run
from jobs import exits
from originality.settings import SettingsError


def retry(run: RunFolder, status: str, reason: str | None) -> Counter[str]:
    """Takes back the rows of a status, or those of one reason code; how many of each reason. What was taken
    back is kept in ``retries/``.

    Raises:
        SettingsError: somebody works on the run.
    """
    at_work = next((pulse for pulse in pulses(run.store) if pulse.alive), None)
    if at_work:
        raise SettingsError(f"the run is being worked on ({at_work.who}); stop that first")

    def unwanted(row: Mapping[str, Any]) -> bool:
        return row["status"] == status and reason in (None, row["error_class"])

    with Heartbeat(run.store, "retry"):
        columns = ["image_id", "status", "error_class"]
        taken = {
            row["image_id"]: str(row["error_class"]) for row in run.ledger.rows(columns) if unwanted(row)
        }
        if taken:
            told = {"status": status, "reason": reason, "images": taken}
            name = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
            run.store.write(f"retries/{name}.json", json.dumps(told, indent=1).encode())
            run.ledger.drop(unwanted, columns[1:])
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
