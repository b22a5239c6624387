"""Pictures that the report embeds, read from the run folder and shrunk."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from cluster.storage.store import NotFound, Store, StoreError
from originality.evaluation.redraw_sheet import RedrawSheet
from originality.evaluation.verdict import Attempt
from originality.report.data import Pictures

_STRIP_TILE = 128
"""Largest side of an embedded redraw in pixels: twice what the page shows it at."""
_QUERY_SIDE = 320
"""Largest side of an embedded image in pixels."""
_LOSSLESS_SIDE = 96
"""Up to this side a picture is kept to the bit: it is small, and a blur would show."""
PARALLEL_REQUESTS = 8
"""Reads at once: a bucket answers each after a while, and any number together."""


def pictures_by_folder(store: Store, sweeps: Mapping[str, Sequence[Attempt]]) -> dict[str, Pictures]:
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as readers:
        pictures = readers.map(lambda item: _pictures_of(store, *item), sweeps.items())
        return dict(zip(sweeps, pictures, strict=True))


def _pictures_of(store: Store, folder: str, sweep: Sequence[Attempt]) -> Pictures:
    """Those that are missing or damaged are left out; the page says so."""
    if not sweep:
        return Pictures()
    query = _read(store, f"{folder}/query.webp")
    page = _read(store, f"{folder}/redraws.webp")
    return Pictures(
        query=_encode(query, _QUERY_SIDE) if query else None,
        redraws=dict(strips(page, sweep)) if page else {},
    )


def _read(store: Store, path: str) -> Image.Image | None:
    """A picture of the run folder, or None where it is missing or damaged."""
    try:
        image = Image.open(io.BytesIO(store.read(path)), formats=("WEBP", "PNG"))
        image.load()
    except NotFound:
        return None
    except StoreError:
        raise  # an outage says nothing of the picture
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # cut short by a full disk, say: the verdict stands without its picture
    return image.convert("RGB")


def strips(page: Image.Image, sweep: Sequence[Attempt]) -> Iterable[tuple[int, bytes]]:
    """The sheet's rows, one an attempt in sweep order, each cut to the redraws that it holds."""
    sheet = RedrawSheet(page)
    for row, attempt in enumerate(sweep):
        if (strip := sheet.strip(row, attempt.redraws)) is not None:
            yield attempt.tokens, _encode(strip, _STRIP_TILE)


def _encode(image: Image.Image, side: int) -> bytes:
    """WebP, shrunk so that the height is at most ``side``."""
    lossless = image.height <= _LOSSLESS_SIDE
    if image.height > side:
        width = max(1, round(image.width * side / image.height))
        image = image.resize((width, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=lossless, quality=84)
    return buffer.getvalue()
