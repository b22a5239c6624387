"""How far a run is, from its store alone, from any machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cluster.heartbeat import Pulse, pulses
from cluster.progress import duration, spoken_rate
from cluster.runfolder import open_run
from jobs import exits
from jobs.verdicts import summarise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", help="run folder of an audit")


def run(arguments: argparse.Namespace) -> int:
    folder = open_run(arguments.output)
    summary = summarise(folder)
    print(f"{folder.store.url}, planned {folder.description['created_at']}")
    print(f"{summary['inputs']} inputs, {summary['images']} distinct images read")
    print(", ".join(f"{summary[s]} {s}" for s in ("judged", "rejected", "failed", "pending")))
    if summary["min_tokens"]:
        print("min tokens: " + ", ".join(f"{k}: {n}" for k, n in summary["min_tokens"].items()))
    if summary["errors"]:
        print("errors: " + ", ".join(f"{k}: {n}" for k, n in summary["errors"].items()))
    for pulse in pulses(folder.store):
        print(_at_work(pulse))
    return exits.ALL_JUDGED


def _at_work(pulse: Pulse) -> str:
    """What a driver last said, in one line."""
    state = pulse.state
    if pulse.alive and pulse.state.get("role") == "retry":
        return f"images are being put back on {state['host']}"
    if pulse.alive and "done" not in state:
        return f"a driver on {state['host']} begins or ends its work"
    if not pulse.alive:
        since = duration(pulse.age)
        return (
            f"a driver on {state['host']} was last heard of {since} ago: the same command goes on from there"
        )
    parts = [f"{state['done']}/{state['inputs']} done", f"{state['workers']} workers"]
    if state["per_hour"]:
        parts += [
            spoken_rate(state["per_hour"] / 3600, state.get("of", "images")),
            f"ETA {duration(state['seconds_left'] or 0)}",
        ]
    if state["cost"]:
        parts.append(f"${state['cost']:.2f}")
    return f"at work on {state['host']}, {pulse.age:.0f} s ago: " + " · ".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    return exits.main("originality status", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
