"""The report of thousands of images in a real browser: python -m tests.scale.page --images N --out FILE.json

A run folder is made up: names, verdicts and pictures of the sizes that Stable Diffusion leaves. Then the
report is written, as ``originality report`` does, and opened by a headless Chromium from its file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from jobs.auditing.report_data import write_report
from tests.support import chromium
from tests.support.large_run import run_folder


def seen(page: chromium.Page, file: Path) -> dict[str, Any]:
    """Measures opening and printing the page."""
    page.open(file)
    paint = page.run(
        "performance.getEntriesByType('paint').find(e => e.name === 'first-contentful-paint').startTime"
    )
    loaded = page.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
    nodes = page.run("document.querySelectorAll('*').length")
    began = time.monotonic()
    page.run("document.querySelector('[data-sort=name] button').click()")
    while page.run("document.querySelector('th[data-sort=name]').ariaSort") != "ascending":
        page.settle()
    sorted_in = time.monotonic() - began
    return {
        "first_contentful_paint_ms": round(paint),
        "load_ms": round(loaded),
        "elements": nodes,
        "sort_all_rows_by_name_ms": round(1000 * sorted_in),
        "printed_pages": page.printed_pages(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    binary = chromium.find()
    assert binary, "no Chromium: run scripts/install-chromium.sh"
    messages: dict[str, Any] = {
        "command": "python -m tests.scale.page --images " + " ".join(str(n) for n in arguments.images),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
    }
    for images in arguments.images:
        folder = Path(tempfile.mkdtemp(prefix="page-"))
        try:
            run = run_folder(folder / "run", images)
            began = time.monotonic()
            file = Path(write_report(run))
            found: dict[str, Any] = {"seconds_to_write": round(time.monotonic() - began, 1)}
            found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            found["page_bytes"] = file.stat().st_size
            found["report_bytes"] = sum(f.stat().st_size for f in file.parent.rglob("*") if f.is_file())
            with chromium.browse(binary, folder / "profile") as page:
                found |= seen(page, file)
        finally:
            shutil.rmtree(folder)
        messages[f"{images} images"] = found
        print(images, found, flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(messages, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
