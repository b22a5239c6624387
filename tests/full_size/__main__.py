"""Run models of full size with random weights: python -m tests.full_size --out FILE.json

Each part runs in a separate process, so that its peak memory is measured separately. Parts that the file
already has for the same versions are not run again. README.md beside the file is the page of the results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from tests.full_size.page import page
from tests.full_size.parts import PARTS

PACKAGES = ("torch", "diffusers", "transformers", "dreamsim")


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.full_size", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/full-size/results.json"))
    parser.add_argument("--again", action="store_true", help="also run parts that the file has")
    parser.add_argument("--report", action="store_true", help="only write the page from the file")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps({**PARTS[given.part](given.folder), "peak_gib": peak()}))
        return
    if not given.report:
        measure(given.out, given.again)
    given.out.with_name("README.md").write_text(page(json.loads(given.out.read_text())))


def measure(out: Path, again: bool) -> None:
    """Run the parts that the file does not have, in order."""
    results = json.loads(out.read_text()) if out.exists() else {"parts": {}}
    versions = {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
    done = results["parts"]
    if results.get("versions") != versions or again:
        done.clear()
    results |= {"versions": versions, "machine": machine()}
    waiting = [name for name in PARTS if name not in done]
    with tempfile.TemporaryDirectory() as folder:
        for name in ["model", *(n for n in waiting if n != "model")] if waiting else []:
            print(f"{name} ...", flush=True)
            done[name] = run(name, Path(folder))
            print(json.dumps(done[name]), flush=True)
            results["parts"] = {n: done[n] for n in PARTS if n in done}
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(results, indent=1) + "\n")


def run(name: str, folder: Path) -> dict[str, Any]:
    """Run one part in a separate process."""
    command = [sys.executable, "-m", "tests.full_size", "--part", name, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {**json.loads(done.stdout.splitlines()[-1]), "load": round(os.getloadavg()[0], 1)}


def peak() -> float:
    """Peak memory of this process in GiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def machine() -> dict[str, Any]:
    """Description of this machine's processor and memory."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "amx_bf16": "amx_bf16" in flags,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
    }


if __name__ == "__main__":
    main()
