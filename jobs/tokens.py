"""Export the learned pseudo-words of a run to files for other tools: A1111, ComfyUI, diffusers.

``originality tokens export RUN --to DIR`` writes one file per pseudo-word, and index.csv, which lists them.
"""

from __future__ import annotations

import argparse
import csv
import io
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from cluster.run.folder import RunFolder, open_run
from cluster.run.record import ARTEFACTS, artefacts_of
from cluster.storage.damage import damage_errors
from cluster.storage.store import Damaged, NotFound, Store, open_store
from jobs.auditing.damaged import warn_of_damage
from jobs.commandline import exits
from originality.contract.config import SettingsError
from originality.model.embedding_files import Word, file_name, words_of

_log = logging.getLogger(__name__)

INDEX = "index.csv"
COLUMNS = ("file", "image_id", "uri", "tokens", "distance")
_MIN_ID_DIGITS = 8
"""Fewest leading digits of an image_id that may name an image."""


def export(
    run: RunFolder, to: Store, images: Sequence[str] = (), tokens: int | None = None
) -> tuple[int, int]:
    """Write the pseudo-words of a run's judged images to files.

    Args:
        images: only these, by image_id (or its first digits), uri, or path in the collection; all if empty.
        tokens: number of tokens of the pseudo-words. None: each image's min tokens, or its largest number of
            tokens if it never passed.

    Returns:
        The number of pseudo-words written, and of images that lack one.

    Raises:
        SettingsError: an image is not in the run, or there is no pseudo-word to write.
    """
    chosen = _chosen(run, images)
    index, without = [], 0
    columns = ["image_id", "status", "min_tokens", "sweep", ARTEFACTS]
    rows = run.ledger.rows(columns, pa.array(list(chosen), pa.string()))
    for row in rows:
        attempt = _attempt(row, tokens)
        word = _word(run, artefacts_of(row), attempt["tokens"]) if attempt else None
        if attempt is None or word is None:
            without += 1
            continue
        uri, path = chosen[row["image_id"]]
        name = file_name(path, row["image_id"], attempt["tokens"])
        to.write(name, word)
        index.append((name, row["image_id"], uri, attempt["tokens"], attempt["distance_mean"]))
    warn_of_damage(run)
    if not index:
        wanted = "pseudo-word" if tokens is None else f"pseudo-word of {tokens} tokens"
        raise SettingsError(f"no selected image has a {wanted} in {run.store.url}; see its report")
    to.write(INDEX, _csv(sorted(index)))
    return len(index), without


def _chosen(run: RunFolder, images: Sequence[str]) -> dict[str, tuple[str, str]]:
    """uri and path of each selected image by its image_id; of identical files, those of the first."""
    found: dict[str, tuple[str, str]] = {}
    missing = set(images)
    for image_id, uri, path in _inputs(run):
        names = {name for name in images if name in (image_id, uri, path) or _begins(image_id, name)}
        missing -= names
        if names or not images:
            found.setdefault(image_id, (uri, path))
    if missing:
        raise SettingsError(
            f"{run.store.url} has no image {sorted(missing)[0]!r} among those it has read; give --image an "
            "image_id, or a uri as listed in its inputs/"
        )
    return found


def _inputs(run: RunFolder) -> Iterator[tuple[str, str, str]]:
    for number in range(len(run.manifest)):
        image_id = run.identities[number]
        if image_id:
            yield image_id, run.manifest.uri(number), run.manifest.path(number)


def _begins(image_id: str, name: str) -> bool:
    return len(name) >= _MIN_ID_DIGITS and image_id.startswith(name)


def _attempt(row: Mapping[str, Any], tokens: int | None) -> Mapping[str, Any] | None:
    """The attempt whose pseudo-word is exported; None if the image lacks it."""
    tried = {a["tokens"]: a for a in row.get("sweep") or () if not a.get("failure")}
    if tokens is None:
        tokens = row.get("min_tokens") or max(tried, default=None)
    return None if tokens is None else tried.get(tokens)


def _word(run: RunFolder, folder: str, tokens: int) -> bytes | None:
    """A pseudo-word from an image's artefacts; None if it is absent, or its file is missing or damaged."""
    path = f"{folder}/tokens.safetensors"
    try:
        with damage_errors(run.store, path):
            word: Word | None = words_of(run.store.read(path)).get(tokens)
    except NotFound:
        return None
    except Damaged as damaged:
        run.damage.note(damaged, "its pseudo-words are left out")
        return None
    return None if word is None else word.file()


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *rows])
    return text.getvalue().encode()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("what", choices=("export",), help="write pseudo-words to files for other tools")
    parser.add_argument("output", metavar="RUN", help="run folder of an audit")
    parser.add_argument("--to", required=True, metavar="DIR", help="folder or bucket prefix to write to")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="ID|URI",
        help="export only this image; may be repeated (default: all)",
    )
    parser.add_argument(
        "--tokens",
        type=int,
        metavar="M",
        help="export pseudo-words of M tokens (default: each image's min tokens, else the largest tried)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    audited = open_run(arguments.output, "audit")
    to = open_store(arguments.to)
    if to.url == audited.store.url:
        raise SettingsError("--to is the run folder itself; choose a different folder for the files")
    written, without = export(audited, to, arguments.image, arguments.tokens)
    lacking = f"; {without} image{'s' if without > 1 else ''} without a matching one" if without else ""
    _log.info("%d pseudo-word%s written%s", written, "s" * (written != 1), lacking)
    print(f"{to.url}/{INDEX}")
    return exits.ALL_JUDGED


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m jobs.tokens``; the exit code."""
    return exits.main("originality tokens", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
