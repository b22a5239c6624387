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
"""Largest side of an embedded redraw in pixels: twice the size at which the page shows it."""
_QUERY_SIDE = 320
"""Largest height of an embedded image in pixels."""
_LOSSLESS_SIDE = 96
"""Up to this height in pixels a picture is stored losslessly: it is small, and artefacts would show."""
PARALLEL_REQUESTS = 8
"""Concurrent requests: a bucket answers each after some latency, but many at the same time."""


def pictures_by_folder(store: Store, sweeps: Mapping[str, Sequence[Attempt]]) -> dict[str, Pictures]:
    """Pictures of images by their folders. ``sweeps``: the attempts of each image, by its folder."""
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as readers:
        pictures = readers.map(lambda item: _pictures_of(store, *item), sweeps.items())
        return dict(zip(sweeps, pictures, strict=True))


def _pictures_of(store: Store, folder: str, sweep: Sequence[Attempt]) -> Pictures:
    """Pictures of one image. Missing and damaged ones are left out; the page shows that they are missing."""
    if not sweep:
        return Pictures()
    query = _read(store, f"{folder}/query.webp")
    page = _read(store, f"{folder}/redraws.webp")
    return Pictures(
        query=_encode(query, _QUERY_SIDE) if query else None,
        redraws=dict(strips(page, sweep)) if page else {},
    )


def _read(store: Store, path: str) -> Image.Image | None:
    """A picture from the run folder; None if it is missing or damaged.

    Raises:
        StoreError: the store is unavailable, which says nothing about the picture.
    """
    try:
        image = Image.open(io.BytesIO(store.read(path)), formats=("WEBP", "PNG"))
        image.load()
    except NotFound:
        return None
    except StoreError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # damaged, for example truncated by a full disk; the verdict is valid without it
    return image.convert("RGB")


def strips(page: Image.Image, sweep: Sequence[Attempt]) -> Iterable[tuple[int, bytes]]:
    """Rows of a sheet of redraws by number of tokens: one per attempt, cut to the redraws that it holds."""
    sheet = RedrawSheet(page)
    for row, attempt in enumerate(sweep):
        if (strip := sheet.strip(row, attempt.redraws)) is not None:
            yield attempt.tokens, _encode(strip, _STRIP_TILE)


def _encode(image: Image.Image, side: int) -> bytes:
    """An image as WebP, shrunk to a height of at most ``side`` pixels."""
    lossless = image.height <= _LOSSLESS_SIDE
    if image.height > side:
        width = max(1, round(image.width * side / image.height))
        image = image.resize((width, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=lossless, quality=84)
    return buffer.getvalue()
