"""A made-up finished run with captions, hostile names and pictures, and its explorer served over HTTP."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from PIL import Image

from cluster.inputs.manifest import LISTED_AS, Manifest
from cluster.run.folder import RunFolder, plan
from cluster.storage.store import open_store
from jobs.auditing.verdict_table import SCHEMA
from jobs.exploring import serving
from jobs.exploring.rows import Rows
from jobs.exploring.server import Explorer
from originality.evaluation.redraw_sheet import COLUMNS
from originality.settings.presets import load_settings
from tests.support.example_runs import HOSTILE, judged, picture, problem
from tests.support.waiting import PATIENCE, until

TOKEN = "a-token-of-the-tests"
ARTISTS = ("Klee", "Arp", "Höch", None)
NAMES = [*(f"plain/{number:03}.png" for number in range(90)), *HOSTILE[:5]]
"""Names of the images, the hostile ones last."""
CAPTION = "<img src=x onerror=\"window.owned='caption'\">"
COLUMN = '"; DROP TABLE items; --'
"""Name of a column of the list."""


def image_id(number: int) -> str:
    return hashlib.sha256(f"image {number}".encode()).hexdigest()


def tokens_of(number: int, shift: int = 0) -> int | None:
    """Min tokens of an image: 1 to 4 in turn, then none."""
    needed = (number + shift * (number % 3 == 0)) % 5 + 1
    return None if needed == 5 else needed


def explored_run(store_url: str, shift: int = 0) -> RunFolder:
    """Make a run: three images of four are in a table, the others still records; the last is pending.

    Args:
        store_url: of the run folder.
        shift: by how many tokens every third verdict differs from the run with 0.
    """
    store = open_store(store_url)
    settings = load_settings("paper", flags={"domain": "houses", "seed": shift})
    identity = {"settings": settings.model_dump(mode="json"), "settings_digest": settings.digest()}
    run = plan("list.csv", store, identity, listing=lambda _: Manifest("", _listed()))
    for number in range(len(NAMES) - 1):
        run.identities.learn(number, image_id(number))
        row, files = _verdict(number, shift)
        run.ledger.commit(image_id(number), row, files)
        if number == len(NAMES) * 3 // 4:
            run.ledger.compact(SCHEMA)
    run.identities.save()
    return RunFolder(store)


def _listed() -> pa.Table:
    count = len(NAMES)
    return pa.table(
        {
            "uri": [f"/collection/{name}" for name in NAMES],
            "bytes": pa.nulls(count, pa.int64()),
            LISTED_AS: NAMES,
            "artist": [ARTISTS[number % 4] for number in range(count)],
            "year": [1900 + number for number in range(count)],
            "caption": [CAPTION if number == 7 else f"a drawing, number {number}" for number in range(count)],
            "status": ["=1+1"] * count,
            "free": [number % 2 == 0 for number in range(count)],
            COLUMN: [f"value {number % 3}" for number in range(count)],
        }
    )


def _verdict(number: int, shift: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    if number % 20 == 19:
        return problem(image_id(number), "rejected", "truncated", "it ends early").row(), {}
    verdict = judged(image_id(number), tokens_of(number, shift), 0.1 + 0.002 * number)
    row = verdict.row() | {"reference_distance": 0.3 + (verdict.score or 0) / 20 + number / 1000}
    for attempt in row["sweep"]:
        around = [attempt["distance_mean"] + (k - 9.5) / 200 for k in range(20)]
        attempt |= {
            "distances": around,
            "edit_hits": [k % 4 > 0 for k in range(20)],
            "pass_probability": 0.75,
        }
    sheet = _sheet(number, len(verdict.sweep))
    return row, {"query.webp": picture(number), "redraws.webp": sheet}


def _sheet(seed: int, rows: int) -> bytes:
    """A sheet of redraws as a run has it."""
    strips = [Image.open(io.BytesIO(picture(seed + 31 * row, COLUMNS))).convert("RGB") for row in range(rows)]
    page = Image.new("RGB", (strips[0].width, rows * strips[0].height), "white")
    for row, strip in enumerate(strips):
        page.paste(strip, (0, row * strip.height))
    buffer = io.BytesIO()
    page.save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


@contextmanager
def served(run: RunFolder, against: RunFolder | None = None) -> Iterator[str]:
    """The explorer of a run, really served, in a thread of this process. Yields its address."""
    with TemporaryDirectory() as folder, serving.listening(0) as sock:
        rows = Rows(run, Path(folder), against)
        server = serving.server(Explorer(rows, run, against).app(TOKEN))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            until(lambda: server.started)
            yield f"http://127.0.0.1:{sock.getsockname()[1]}/{TOKEN}/"
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            rows.close()
