"""Reads a run again and again while others work on it: python -m tests.chaos.reader OUTPUT, until its
standard input ends. Prints one line for each fault."""

from __future__ import annotations

import io
import json
import select
import sys
from contextlib import redirect_stdout
from typing import Any

from jobs import cli
from jobs.commandline import exits
from tests.chaos import limits


def look(output: str, before: dict[str, Any]) -> dict[str, Any]:
    """Reads the run by ``status`` and by the report; returns the counts.

    Raises:
        AssertionError: they are not those of one state of the run, or older than those before.
    """
    said = io.StringIO()
    with redirect_stdout(said):
        code = cli.main(["status", output, "--json"])
        assert code == exits.ALL_JUDGED, f"status ended with code {code}"
    seen: dict[str, Any] = json.loads(said.getvalue())
    counts = {key: seen[key] for key in ("inputs", "judged", "rejected", "failed", "pending")}
    assert counts["inputs"] == before.get("inputs", counts["inputs"]), f"{before}, then {counts}"
    assert counts["judged"] >= before.get("judged", 0), f"judged images were lost: {before}, then {counts}"
    assert counts["failed"] == 0, f"something failed: {counts}"
    with redirect_stdout(io.StringIO()):
        code = cli.main(["report", output])
    assert code == exits.ALL_JUDGED, f"report ended with code {code}"
    return counts


def main(output: str) -> None:
    limits.shorten("cluster")
    before: dict[str, Any] = {}
    looks = 0
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        try:
            before = look(output, before)
        except Exception as error:
            print(f"a reader saw {type(error).__name__}: {error}", flush=True)
        looks += 1
    print(f"looks: {looks}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
