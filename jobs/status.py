"""Show the progress of a run. Reads only the run folder, so any machine can do it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.driver.progress import duration, rate_text
from cluster.run.folder import open_run
from cluster.storage.heartbeat import Pulse, pulses
from jobs.auditing.damaged import damage_text, warn_of_damage
from jobs.auditing.groups import groups_by
from jobs.auditing.sampled import sample_text
from jobs.auditing.status_object import status_object
from jobs.auditing.verdict_table import summarise
from jobs.commandline import exits, process

_MOST_GROUPS = 40
"""Most values of a column that are printed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("output", help="run folder of an audit")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    parser.add_argument("--by", metavar="COLUMN", help="also count by a column of the collection's list")


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    folder = open_run(arguments.output)
    summary = summarise(folder)
    warn_of_damage(folder)
    groups = groups_by(folder, arguments.by) if arguments.by else []
    if arguments.json:
        found = status_object(folder, summary)
        if arguments.by:
            found["groups"] = {"by": arguments.by, "values": groups}
        print(json.dumps(found, indent=2, default=str))
        return exits.ALL_JUDGED
    print(f"{folder.store.url}, created {folder.description.get('created_at', 'at an unknown time')}")
    print(f"{summary['inputs']} inputs, {summary['images']} distinct images read")
    if sample := sample_text(folder):
        print(process.one_line(f"it judges {sample}"))
    if folder.manifest.skipped:
        print(folder.manifest.skipped_text)
    print(", ".join(f"{summary[s]} {s}" for s in ("judged", "rejected", "failed", "pending")))
    if summary["min_tokens"]:
        print("min tokens: " + ", ".join(f"{k}: {n}" for k, n in summary["min_tokens"].items()))
    if summary["mean_score"] is not None:
        sure = f"median confidence {summary['median_confidence']:.0%}"
        print(f"score: {summary['mean_score']:.2f} tokens in the mean, {sure}")
        print("redrawn at: " + ", ".join(f"{k}: {n}" for k, n in summary["redrawn_at"].items()))
    for group in groups[:_MOST_GROUPS]:
        print(process.one_line(_group_line(arguments.by, group)))
    if len(groups) > _MOST_GROUPS:
        print(f"and {len(groups) - _MOST_GROUPS} more values of {process.one_line(arguments.by)}")
    if summary["errors"]:
        print("errors: " + ", ".join(f"{k}: {n}" for k, n in summary["errors"].items()))
    if summary["notes"]:
        print("notes: " + ", ".join(f"{note}: {n}" for note, n in summary["notes"].items()))
    if summary["damaged"]:
        print(damage_text(summary["damaged"]))
    for pulse in pulses(folder.store):
        print(process.one_line(_driver_line(pulse)))
    return exits.ALL_JUDGED


def _group_line(column: str, group: Mapping[str, Any]) -> str:
    """One line about the inputs with one value of a column."""
    tokens = ", ".join(f"{needed}: {count}" for needed, count in group["min_tokens"].items())
    named = "without a value" if group["value"] is None else str(group["value"])
    return f"{column} {named}: {group['inputs']} inputs; min tokens {tokens or 'unknown'}"


def _driver_line(pulse: Pulse) -> str:
    """One line about a driver, from its last heartbeat. Damaged values are left out."""
    state, host = pulse.state, pulse.host
    if not pulse.alive:
        since = duration(pulse.age)
        return (
            f"the driver on {host} sent its last heartbeat {since} ago; run the same command again to resume"
        )
    if state.get("role") == "retry":
        return f"a retry on {host} is queueing images again"
    if state.get("waits"):
        return f"an audit on {host} is waiting for another one that judges the same images"
    try:
        progress = _progress_text(state)
    except (LookupError, TypeError, ValueError):
        return f"the driver on {host} is starting or finishing"
    return f"running on {host}, {pulse.age:.0f} s ago: {progress}"


def _progress_text(state: Mapping[str, Any]) -> str:
    """Progress of a driver, from the state in its heartbeat.

    Raises:
        LookupError, TypeError, ValueError: the state has no progress yet, or is damaged.
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
    """Run ``python -m jobs.status``; the exit code."""
    return exits.main("originality status", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
