"""Detect which elements of the world of shapes the images of a collection show, where and how confidently."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from cluster.inputs.decoder import Decoder
from cluster.inputs.images import Rejection, check_size
from cluster.inputs.listing import scan
from cluster.inputs.manifest import Manifest
from cluster.inputs.sources import Unreadable, read_image
from jobs.commandline import exits
from originality.contract.config import SettingsError

_log = logging.getLogger(__name__)

_BATCH = 64
"""Images per pass of the detector."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("input", help="folder, bucket prefix, glob in quotes, list, or one image")
    parser.add_argument("--out", type=Path, help="file of JSON lines (default: standard output)")
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.9,
        help="smallest confidence of a detection that counts (default: 0.9, the paper's Appendix B.1)",
    )


def rows(manifest: Manifest, confidence: float) -> Iterator[dict[str, Any]]:
    """Rows of JSON, one per image: its uri, and its elements or the reason why it could not be read.

    ``elements`` are mappings of element, x, y (pixels of 64 x 64) and confidence (0 to 1).
    """
    import numpy as np

    from originality.shapes.detector import Detector, to_ink

    detector = Detector.load()
    with Decoder() as decoder:
        for first in range(0, len(manifest), _BATCH):
            batch: list[tuple[str, Any]] = []
            for number in range(first, min(first + _BATCH, len(manifest))):
                uri = manifest.uri(number)
                try:
                    data = read_image(uri, check_size, manifest.location(number))
                    image = decoder.decode(data)
                except (Unreadable, Rejection) as error:
                    yield {"uri": uri, "error_class": error.reason_code, "error_message": error.message}
                    continue
                # Each image is shrunk by itself because images of a collection differ in size; the detector
                # takes batches of 64 x 64.
                ink = to_ink(np.array(image)[None])
                batch.append((uri, ((1 - ink[0]) * 255).round().byte().permute(1, 2, 0).numpy()))
            if not batch:
                continue
            found = detector.detect(np.stack([small for _, small in batch]), confidence)
            for (uri, _), seen in zip(batch, found, strict=True):
                elements = [
                    {
                        "element": str(d.element),
                        "x": round(d.x, 2),
                        "y": round(d.y, 2),
                        "confidence": round(d.confidence, 4),
                    }
                    for d in seen
                ]
                yield {"uri": uri, "elements": elements}


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    if not 0 < arguments.confidence <= 1:
        raise SettingsError(f"--confidence {arguments.confidence:g}: give a number above 0, at most 1")
    manifest = scan(arguments.input)
    if manifest.skipped:
        _log.warning("%s", manifest.skipped_text)
    counts, bad = Counter[str](), 0
    with ExitStack() as stack:
        out: TextIO = sys.stdout
        if arguments.out:
            try:
                out = stack.enter_context(arguments.out.open("w", encoding="utf-8"))
            except OSError as error:
                raise SettingsError(f"--out {arguments.out}: {error.strerror}; name another file") from error
        for number, row in enumerate(rows(manifest, arguments.confidence), 1):
            out.write(json.dumps(row) + "\n")
            bad += "error_class" in row
            counts.update(e["element"] for e in row.get("elements", ()))
            if number % 1000 == 0:
                _log.info("%d/%d images", number, len(manifest))
    _log.info(
        "%d images, %d elements of %d kinds, %d unreadable", len(manifest), counts.total(), len(counts), bad
    )
    return exits.SOME_UNJUDGED if bad else exits.ALL_JUDGED


def main(argv: Any = None) -> int:
    """Run ``python -m jobs.detect``; the exit code."""
    return exits.main("originality synthetic detect", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
