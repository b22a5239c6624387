"""Planning a WebDataset of a million tiny members: python -m tests.scale.webdataset --out FILE.json

The plan runs in a separate process, is killed with SIGKILL when half of the shards are listed, and is run
again. Peak memory is that of the second process. Requests are counted where they are made, for listing and
for reading every hundredth image; local files are read by the same ranges as objects of a bucket.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from cluster.inputs import local_files, read_ahead
from cluster.inputs.identities import image_id_of
from cluster.inputs.sources import read_image
from cluster.run.folder import RunFolder, open_run
from cluster.run.layout import SHARD_LISTINGS
from jobs.auditing.audit_run import plan_audit
from jobs.auditing.prepare import PreparedAudit
from originality.settings.presets import load_settings
from tests.scale.instant import Instant
from tests.support.tars import END, header, padded

MEMBERS = 1000
"""Images of a shard, each with a caption."""
EVERY = 100
"""Every so many-th image is read."""
_SCIENCE = PreparedAudit(load_settings(flags={"model": {"device": "cpu"}}), Instant, {})


def write(folder: Path, images: int) -> None:
    """Write shards whose images are BMP files of 2 x 2 pixels, all different."""
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "BMP")
    head = buffer.getvalue()[:54]
    for first in range(0, images, MEMBERS):
        parts = []
        for number in range(first, min(first + MEMBERS, images)):
            pixels = struct.pack("<Q", number)
            data = head + pixels[:6] + b"\0\0" + pixels[2:] + b"\0\0"
            text = f"caption {number}".encode()
            name = f"{number:09}"
            parts += [header(f"{name}.bmp".encode(), len(data)), padded(data)]
            parts += [header(f"{name}.txt".encode(), len(text)), padded(text)]
        (folder / f"{first // MEMBERS:05}.tar").write_bytes(b"".join(parts) + END)


def plan(run: Path, shards: Path) -> dict[str, Any]:
    """Plan the run; seconds, peak memory, and requests of listing."""
    requests = 0
    ahead = read_ahead.ReadAhead.__call__

    def counted(reader: read_ahead.ReadAhead, offset: int, length: int) -> bytes:
        nonlocal requests
        before = reader.requests
        data = ahead(reader, offset, length)
        requests += reader.requests - before
        return data

    read_ahead.ReadAhead.__call__ = counted  # type: ignore[method-assign]
    started = time.monotonic()
    folder = plan_audit(_SCIENCE, str(shards), str(run))
    return {
        "inputs": len(folder.manifest),
        "seconds": round(time.monotonic() - started, 1),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "requests_of_listing": requests,
    }


def read(run: RunFolder) -> dict[str, Any]:
    """Read every EVERY-th image; requests for each."""
    requests = 0
    ranged = local_files.read_local_range

    def counted(member: Any) -> bytes:
        nonlocal requests
        requests += 1
        return ranged(member)

    import cluster.inputs.sources as sources

    sources.read_local_range = counted  # type: ignore[attr-defined]
    numbers = range(0, len(run.manifest), EVERY)
    found = {
        image_id_of(read_image(run.manifest.uri(k), lambda size: None, run.manifest.location(k)))
        for k in numbers
    }
    assert len(found) == len(numbers), "an image was read twice"
    return {"images_read": len(numbers), "requests_an_image": requests / len(numbers)}


def measure(images: int) -> dict[str, Any]:
    """Plan, kill, plan again, read."""
    with tempfile.TemporaryDirectory() as scratch:
        shards, run = Path(scratch) / "shards", Path(scratch) / "run"
        shards.mkdir()
        write(shards, images)
        command = [sys.executable, "-m", "tests.scale.webdataset", "--plan", str(run), str(shards)]
        half = -(-images // MEMBERS) // 2
        first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        kept = run / SHARD_LISTINGS
        while first.poll() is None and (not kept.exists() or len(list(kept.iterdir())) < half):
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
        first.wait()
        listed = len(list(kept.iterdir())) if kept.exists() else 0
        again = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        resumed = json.loads(again.stdout.splitlines()[-1])
        planned = open_run(str(run))
        return {
            "images": images,
            "shards": -(-images // MEMBERS),
            "bytes": sum(file.stat().st_size for file in shards.iterdir()),
            "shards_listed_before_the_kill": listed,
            "resumed": resumed,
            "listings_left": len(list(kept.iterdir())) if kept.exists() else 0,
            **read(planned),
            "cores": os.cpu_count(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plan", nargs=2, type=Path, metavar=("RUN", "SHARDS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plan:
        print(json.dumps(plan(*arguments.plan)))
        return
    text = json.dumps(measure(arguments.images), indent=1)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
