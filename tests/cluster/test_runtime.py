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


def test_sigterm_while_ray_starts_is_an_interrupt() -> None:
    """As soon as ray.init has put its own handler in the place of ours."""
    code = (
        "import os, signal, threading, time\n"
        "from cluster.runtime import ray_running\n"
        "from jobs.exits import run\n"
        "def end():\n"
        "    while signal.getsignal(signal.SIGTERM) in (signal.default_int_handler, signal.SIG_DFL):\n"
        "        time.sleep(0.001)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "threading.Thread(target=end).start()\n"
        "raise SystemExit(run(lambda: ray_running().__enter__() or 0))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 130, done.stderr
    assert done.stderr == "originality: interrupted; the same command goes on from here\n"
