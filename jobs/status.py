"""How far a run is, from its store alone, from any machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.driver.progress import duration, rate_text
from cluster.run.folder import RunFolder, open_run
from cluster.storage.heartbeat import Pulse, pulses
from jobs.auditing.damaged import damage_text, warn_of_damage
from jobs.auditing.verdict_table import summarise
from jobs.commandline import exits, process


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", help="run folder of an audit")
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")


def run(arguments: argparse.Namespace) -> int:
    folder = open_run(arguments.output)
    summary = summarise(folder)
    warn_of_damage(folder)
    if arguments.json:
        print(json.dumps(as_json(folder, summary), indent=2))
        return exits.ALL_JUDGED
    print(f"{folder.store.url}, planned {folder.description.get('created_at', 'at an unknown time')}")
    print(f"{summary['inputs']} inputs, {summary['images']} distinct images read")
    if folder.manifest.skipped:
        print(folder.manifest.skipped_text)
    print(", ".join(f"{summary[s]} {s}" for s in ("judged", "rejected", "failed", "pending")))
    if summary["min_tokens"]:
        print("min tokens: " + ", ".join(f"{k}: {n}" for k, n in summary["min_tokens"].items()))
    if summary["errors"]:
        print("errors: " + ", ".join(f"{k}: {n}" for k, n in summary["errors"].items()))
    if summary["notes"]:
        print("notes: " + ", ".join(f"{note}: {n}" for note, n in summary["notes"].items()))
    if summary["damaged"]:
        print(damage_text(summary["damaged"]))
    for pulse in pulses(folder.store):
        print(process.one_line(_at_work(pulse)))
    return exits.ALL_JUDGED


def as_json(folder: RunFolder, summary: Mapping[str, Any]) -> dict[str, Any]:
    """What summary.json holds, counted now; where the run is, since when, and what its drivers last said."""
    drivers = [
        {"alive": pulse.alive, "seconds_ago": round(pulse.age, 1), **pulse.state}
        for pulse in pulses(folder.store)
    ]
    created = folder.description.get("created_at")
    return {"run": folder.store.url, "created_at": created, **summary, "drivers": drivers}


def _at_work(pulse: Pulse) -> str:
    """What somebody at work last said, in one line. What is damaged of it is left out."""
    state, host = pulse.state, pulse.host
    if not pulse.alive:
        since = duration(pulse.age)
        return f"a driver on {host} was last heard of {since} ago; run the same command again to resume"
    if state.get("role") == "retry":
        return f"images are being put back on {host}"
    if state.get("waits"):
        return f"a start on {host} waits until those end that judge the same images"
    try:
        said = _far(state)
    except (LookupError, TypeError, ValueError):
        return f"a driver on {host} begins or ends its work"
    return f"at work on {host}, {pulse.age:.0f} s ago: {said}"


def _far(state: Mapping[str, Any]) -> str:
    """How far a driver is.

    Raises:
        LookupError, TypeError, ValueError: it has not said, or what it said is damaged.
    """
    parts = [f"{state['done']}/{state['inputs']} done", f"{state['workers']} workers"]
    if state["per_hour"]:
        parts.append(rate_text(state["per_hour"] / 3600, state.get("of", "images")))
    if state.get("seconds_left") is not None:
        parts.append(f"about {duration(state['seconds_left'])} left")
    if state["cost"]:
        parts.append(f"${state['cost']:.2f}")
    return " · ".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    return exits.main("originality status", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
