"""Several processes of one node that need the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from originality.model.diffusers_folder import MODELS, PARTS
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

SHAPES = MODELS / "shapes"
UNET = "unet/diffusion_pytorch_model.safetensors"
COMMIT = "133a221b8aa7292a167afc5127cb63fb5005638b"

_COPY = """
import json, sys
from cluster.weights.node_copy import local_copy
print(local_copy(**json.loads(sys.argv[1])))
"""


def start(uri: str, revision: str | None = None, **environment: str) -> subprocess.Popen[str]:
    """Start a process that fetches the weights and prints their folder."""
    requested = json.dumps({"uri": uri, "parts": PARTS, "revision": revision})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", _COPY, requested]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, text=True, **pipes)


def answer(process: subprocess.Popen[str]) -> Path:
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return Path(output.strip())


def error(process: subprocess.Popen[str]) -> str:
    """The last line of a traceback; checks that the hub's library printed nothing before it."""
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and "[Retry 1/" not in errors, errors
    return errors.strip().splitlines()[-1]


def files(folder: Path) -> dict[str, bytes]:
    """The needed files of a model's folder, by path."""
    found = (f for f in folder.rglob("*") if f.is_file() and f.suffix in (".safetensors", ".json", ".txt"))
    named = {f.relative_to(folder).as_posix(): f.read_bytes() for f in found}
    return {name: data for name, data in named.items() if name.split("/")[0] in PARTS}


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a server on loopback; yields its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:  # type: ignore[arg-type]
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
