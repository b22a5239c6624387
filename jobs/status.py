"""How far a run is, from its store alone, from any machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cluster.runfolder import open_run
from jobs import exits
from jobs.verdicts import summarise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", help="run folder of an audit")


def run(arguments: argparse.Namespace) -> int:
    folder = open_run(arguments.output)
    summary = summarise(folder)
    print(f"{folder.store.url}, planned {folder.description['created_at']}")
    print(f"{summary['inputs']} inputs, {summary['images']} distinct images")
    print(", ".join(f"{summary[s]} {s}" for s in ("judged", "rejected", "failed", "pending")))
    if summary["min_tokens"]:
        print("min tokens: " + ", ".join(f"{k}: {n}" for k, n in summary["min_tokens"].items()))
    if summary["errors"]:
        print("errors: " + ", ".join(f"{k}: {n}" for k, n in summary["errors"].items()))
    return exits.ALL_JUDGED


def main(argv: Sequence[str] | None = None) -> int:
    return exits.main("originality status", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
