"""Estimate the min tokens of a whole collection from the random sample that a run judged.

``originality estimate-population RUN``, or ``python -m jobs.estimate_population RUN``. Prints the share of
images by min tokens and the mean score, of the collection and of each value of a column, with 95 % intervals.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.run.folder import RunFolder, open_run
from jobs.auditing.damaged import warn_of_damage
from jobs.auditing.population import NEVER, estimates
from jobs.auditing.proxies import proxy_of
from jobs.auditing.sampled import Sampled, known_strata, sampled
from jobs.commandline import exits, process

_MOST_GROUPS = 40
"""Most values of a column that are printed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("output", metavar="RUN", help="run folder of an audit")
    parser.add_argument(
        "--by", metavar="COLUMN", help="also for each value of a column of the collection's list"
    )
    parser.add_argument(
        "--proxy",
        metavar="COLUMN|FILE",
        help="a number known for all inputs that goes with the score, which shortens intervals: a column of "
        "the list, or a .parquet or .csv file with the columns value and uri or number",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    folder = open_run(arguments.output, "audit")
    by = known_strata(folder, arguments.by) if arguments.by else None
    sample = sampled(folder)
    proxy = proxy_of(folder, arguments.proxy) if arguments.proxy else None
    collection, groups = estimates(sample, by, proxy)
    warn_of_damage(folder)
    if arguments.json:
        found = {**about(folder, sample), "collection": collection}
        if by is not None:
            found["groups"] = {"by": arguments.by, "values": groups}
        print(json.dumps(found, indent=2))
        return exits.ALL_JUDGED
    print(process.one_line(f"{folder.store.url}: {sample.text}"))
    _print_collection(collection, sample)
    for group in groups[:_MOST_GROUPS]:
        print(process.one_line(_group_line(arguments.by, group)))
    if len(groups) > _MOST_GROUPS:
        print(f"and {len(groups) - _MOST_GROUPS} more values of {process.one_line(arguments.by)}")
    return exits.ALL_JUDGED


def about(folder: RunFolder, sample: Sampled) -> dict[str, Any]:
    """Of what the estimates are, as plain values."""
    plan = None if sample.plan is None else sample.plan.values
    return {
        "run": folder.store.url,
        "sample": {"text": sample.text, "plan": plan, "planned": sample.planned, "unused": sample.unused},
        "level": 0.95,
    }


def _print_collection(found: Mapping[str, Any], sample: Sampled) -> None:
    counts = ", ".join(f"{found[status]} {status}" for status in ("judged", "rejected", "failed"))
    print(f"{found['sampled']} of its inputs count here: {counts}")
    if sample.unused:
        print(
            f"{sample.unused} settled inputs are not counted yet, as earlier ones of the sample are pending; "
            "resume the audit"
        )
    if missing := found["strata_without_sample"]:
        names = ", ".join(missing)[:200]
        print(process.one_line(f"no judged inputs in {names}; assumed to be like the other strata"))
    if found["rejected"]:
        print(f"inputs that cannot be judged: {_share_text(found['rejected_share'])}")
    if found["shares"] is None:
        print("no input of the sample is judged, so there is no estimate of min tokens")
        return
    for tokens, share in found["shares"].items():
        label = NEVER if tokens == NEVER else f"{tokens} token{'s' if tokens != '1' else ''}"
        print(f"{label:>9}: {_share_text(share)}")
    print(f"mean score: {_mean_text(found['mean_score'])}")
    if proxy := found.get("proxy"):
        without = _mean_text(proxy["mean_score_without"])
        print(f"without the proxy, {without}; it is worth {proxy['audits_saved']} more audited images")
    if more := found["audit_more_to_halve"]:
        print(f"audit {more} more images to halve these intervals: --sample {sample.planned + more}")


def _group_line(column: str, group: Mapping[str, Any]) -> str:
    """One line about the inputs with one value of a column."""
    start = f"{column} {group['value']}: {group['inputs']} inputs, {group['judged']} judged"
    if group["shares"] is None:
        return start
    one, never = (_share_text(group["shares"][key]) for key in ("1", NEVER))
    return f"{start}; mean score {_mean_text(group['mean_score'])}; 1 token {one}; never {never}"


def _share_text(share: Mapping[str, float]) -> str:
    text = f"{share['value']:.1%} [{share['low']:.1%}, {share['high']:.1%}]"
    if "low_with_failed" in share:
        text += (
            f", [{share['low_with_failed']:.1%}, {share['high_with_failed']:.1%}] whatever failed ones need"
        )
    return text


def _mean_text(mean: Mapping[str, float]) -> str:
    text = f"{mean['value']:.2f} [{mean['low']:.2f}, {mean['high']:.2f}]"
    if "low_with_failed" in mean:
        text += f", [{mean['low_with_failed']:.2f}, {mean['high_with_failed']:.2f}] whatever failed ones need"
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m jobs.estimate_population``; the exit code."""
    return exits.main("originality estimate-population", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
