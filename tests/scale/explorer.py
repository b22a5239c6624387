"""The explorer of a million rows in a real browser: python -m tests.scale.explorer --images N --out FILE.json

A run folder is made up, with columns and sweeps of the usual size. Then it is served as ``originality
explore`` does, and a headless Chromium measures what a person waits for: from a click until the page shows
its rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.support import chromium
from tests.support.report_page import until
from tests.support.simulated_run import simulated_run

STATUS = "document.querySelector('#status').textContent"
TIMED = """(async () => {{
  const results = document.querySelector('#results');
  const rows = document.querySelector('#table tbody');
  const start = performance.now();
  {action};
  const waits = () => document.querySelector('#table tbody') === rows || results.hasAttribute('aria-busy');
  while (waits()) await new Promise(requestAnimationFrame);
  return Math.round(performance.now() - start);
}})()"""
"""Does something, and waits until the page shows other rows: milliseconds."""

CHIP = "document.querySelector('#tokens-choice input').click()"
CLEAR = "document.querySelector('#clear').click()"


def changed(selector: str, value: str) -> str:
    """Give a field a value at once."""
    field = f"document.querySelector('{selector}')"
    return f"{field}.value = '{value}'; {field}.dispatchEvent(new Event('change'))"


def found(words: str) -> str:
    """Find words by Enter, without the wait after the last key."""
    field = "document.querySelector('[name=find]')"
    submit = "document.querySelector('#filters').requestSubmit()"
    return f"{field}.value = '{words}'; {field}.focus(); {submit}"


STEPS = {
    "filter by min tokens": CHIP,
    "and by score": changed('[name="score from"]', "1.5"),
    "clear": CLEAR,
    "find two words": found("river 77"),
    "find nothing": found("nowhere"),
    "clear again": CLEAR,
    "sort by score": changed("#sort", "score"),
    "sort by caption": changed("#sort", "caption"),
    "last page of that": "document.querySelector('.pager [name=last]').click()",
}


def seen(page: chromium.Page, url: str) -> dict[str, Any]:
    """Measures the first page and what follows, in milliseconds."""
    page.visit("about:blank")
    began = time.monotonic()
    page.visit(url)
    until(page, f"/^Images 1 to/.test({STATUS})", True)
    told: dict[str, Any] = {"first page": round(1000 * (time.monotonic() - began))}
    until(
        page, "document.querySelectorAll('.bar').length > 0 && document.querySelector('.cell') !== null", True
    )
    told["first page with charts"] = round(1000 * (time.monotonic() - began))
    for name, action in STEPS.items():
        told[name] = page.run(TIMED.format(action=action))
    return told


def measured(process: subprocess.Popen[str], binary: str, profile: Path, began: float) -> dict[str, Any]:
    """What an explorer that was started at ``began`` (monotonic seconds) takes."""
    assert process.stdout
    url = next(line for line in process.stdout if line.startswith("http")).strip()
    server = psutil.Process(process.pid)
    told: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "seconds until it serves": round(time.monotonic() - began, 1),
        "of them processor time": round(sum(server.cpu_times()[:2]), 1),
    }
    with chromium.browse(binary, profile) as page:
        told["milliseconds"] = seen(page, url)
    told["load average of the machine"] = [round(load, 1) for load in os.getloadavg()]
    told["MiB of the server"] = round(server.memory_info().rss / 2**20)
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    binary = chromium.find()
    assert binary, "no Chromium: run scripts/install-chromium.sh"
    folder = Path(tempfile.mkdtemp(prefix="explorer-"))
    try:
        simulated_run(folder / "run", arguments.images)
        began = time.monotonic()
        command = [sys.executable, "-m", "jobs.explore", str(folder / "run"), "--no-open"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                told = measured(process, binary, folder / "profile", began)
            finally:
                process.terminate()
    finally:
        shutil.rmtree(folder)
    told = {"command": f"python -m tests.scale.explorer --images {arguments.images}", **told}
    print(json.dumps(told, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
