"""Plays all hundred schedules: python -m tests.chaos --out docs/chaos/results.json [--first 0 --last 99].

Resumes if it was interrupted. ``--only KIND ...`` plays only schedules of these kinds of trouble; ``--kinds``
lists them.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos.play import play
from tests.chaos.schedule import KINDS, schedule
from tests.chaos.stage import Stage


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--last", type=int, default=99)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=(), metavar="KIND")
    parser.add_argument("--kinds", action="version", version="\n".join(KINDS))
    arguments = parser.parse_args()
    played: list[dict[str, Any]] = []
    if arguments.out.exists():
        played = json.loads(arguments.out.read_text())["schedules"]
    done = {one["seed"] for one in played}
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    for number in (signal.SIGINT, signal.SIGTERM):  # so that nothing is left behind
        signal.signal(number, signal.default_int_handler)
    with Stage(folder) as stage:
        for seed in range(arguments.first, arguments.last + 1):
            if seed in done:
                continue
            one = play(stage, schedule(seed, arguments.only))
            print(
                f"{seed}: {one.starts} starts, {one.seconds} s, {', '.join(one.events) or 'no trouble'}: "
                f"{one.wrong or 'all as it should be'}",
                flush=True,
            )
            played.append(asdict(one))
            arguments.out.write_text(json.dumps(_told(played), indent=1) + "\n")
    wrong = [one["seed"] for one in played if one["wrong"]]
    print(f"{len(played)} schedules, wrong: {wrong or 'none'}; logs in {folder}")
    return 1 if wrong else 0


def _told(played: list[dict[str, Any]]) -> dict[str, Any]:
    troubles = Counter(event.rpartition(" at ")[0] for one in played for event in one["events"])
    return {
        "command": "make chaos",
        "schedules": sorted(played, key=lambda one: one["seed"]),
        "wrong": sum(bool(one["wrong"]) for one in played),
        "starts": sum(one["starts"] for one in played),
        "troubles": dict(sorted(troubles.items())),
    }


if __name__ == "__main__":
    sys.exit(main())
