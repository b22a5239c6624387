from __future__ import annotations

import os
import subprocess
import sys
import time

from tests.rays import ROOT, free_port


def test_a_cluster_that_is_gone_is_said_at_once() -> None:
    code = (
        "from cluster.runtime import ray_running\n"
        "from jobs.exits import run\n"
        "raise SystemExit(run(lambda: ray_running().__enter__() or 0))\n"
    )
    address = f"127.0.0.1:{free_port()}"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"originality: no Ray to be had at {address} (") and "unset RAY_ADDRESS" in line
    assert time.monotonic() - began < 30
