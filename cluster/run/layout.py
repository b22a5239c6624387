"""Every path of a run folder, relative to the folder. No other module spells them.

    run.json                         what decides the results: settings, digests, code version
    manifest.parquet                 one row an input, as listed
    items/NAME.json                  the inputs of an experiment's run, which has no images
    inputs/part-*.parquet            which image each input is, found where its bytes were read
    records/IJ/IMAGE_ID.json         one object an image; creating it is the commit
    verdicts/part-*.parquet          the records, compacted
    samples/000001.json              random samples, each frozen before its first verdict
    retries/000001.json              images that were given back, to be judged again
    images/IMAGE_ID/ATTEMPT/         what came of an image beside its record, such as redraws.webp
    progress/IMAGE_ID.snapshot       an image's work so far; removed after the commit
    progress/drivers/                the queue of the processes that work on the run, with their heartbeats
    progress/compacting/, summing/, reporting/     locks
    progress/shards/DIGEST.parquet   what is listed of a WebDataset so far; removed once the manifest is there
    summary.json
    report/index.html, report/data/

Runs of earlier versions are opened by these paths, so a path that was once written never changes. This module
imports nothing of the project, so that every layer may import it.
"""

from __future__ import annotations

import re

RUN_FILE = "run.json"
"""Marks a run folder: the pictures in one belong to that audit, and are no input of another."""
MANIFEST_FILE = "manifest.parquet"
SUMMARY_FILE = "summary.json"
REPORT_PAGE = "report/index.html"
REPORT_DATA = "report/data"
"""Folder of the files that the page's script reads."""

ITEMS = "items"
INPUTS = "inputs"
RECORDS = "records"
VERDICTS = "verdicts"
RETRIES = "retries"
SAMPLES = "samples"
IMAGES = "images"
PROGRESS = "progress"
DRIVERS = f"{PROGRESS}/drivers"
"""Folder of the queue of the processes that work on the run, or wait for their turn."""

SHARD_LISTINGS = f"{PROGRESS}/shards"
"""Folder of the shards that are listed while a run is planned."""

# Folders, one a lock: the processes that hold or want it queue in there.
COMPACTING_LOCK = f"{PROGRESS}/compacting"
SUMMARY_LOCK = f"{PROGRESS}/summing"
REPORT_LOCK = f"{PROGRESS}/reporting"

_SNAPSHOT = ".snapshot"
_INPUTS_PART = re.compile(rf"{INPUTS}/part-(\d+)-[0-9a-f]+-\d+\.parquet")
"""Earlier versions named parts by the clock of the writing machine; those come before any with a number."""
_VERDICTS_PART = re.compile(rf"{VERDICTS}/part-(\d{{6}})-[0-9a-f]+\.parquet")
_RETRY = re.compile(rf"{RETRIES}/(\d{{6}})\.json")
"""Earlier versions, which removed rows, noted them here under names that begin with a date."""
_SAMPLE = re.compile(rf"{SAMPLES}/(\d{{6}})\.json")


def item_path(name: str) -> str:
    """A document of an experiment's run. ``name``: with its extension."""
    return f"{ITEMS}/{name}"


def inputs_part_path(sequence: int, writer: str, part: int) -> str:
    """A part of what is known of the inputs.

    Args:
        sequence: one higher than that of any part which the writer found.
        writer: hex digits, different for each process.
        part: counted from 0 for each writer.
    """
    return f"{INPUTS}/part-{sequence:06}-{writer}-{part:05}.parquet"


def inputs_part_sequence(path: str) -> int:
    """The sequence number in a part's path; 0 if it has none."""
    name = _INPUTS_PART.fullmatch(path)
    return int(name[1]) if name else 0


def record_path(image_id: str, retry: int = 0) -> str:
    """An image's record. ``retry``: number of the last retry that gave the image back; 0 for none.

    Records are spread over 256 prefixes, as stores limit the writes a second to each prefix.
    """
    return f"{RECORDS}/{image_id[-2:]}/{image_id}{f'.{retry}' if retry else ''}.json"


def verdicts_part_path(retries: int, digest: str) -> str:
    """A part of the compacted records. ``retries``: how many retries its writer knew of; ``digest``: sha256
    of its contents in hex digits."""
    return f"{VERDICTS}/part-{retries:06}-{digest[:16]}.parquet"


def verdicts_part_retries(path: str) -> int:
    """How many retries the writer of a part knew of; 0 if its name does not say."""
    name = _VERDICTS_PART.fullmatch(path)
    return int(name[1]) if name else 0


def retry_path(number: int) -> str:
    """A retry, counted from 1."""
    return f"{RETRIES}/{number:06}.json"


def retry_number(path: str) -> int | None:
    """The number of the retry at a path; None if the path is not a retry's."""
    name = _RETRY.fullmatch(path)
    return int(name[1]) if name else None


def sample_path(number: int) -> str:
    """The plan of a random sample, counted from 1."""
    return f"{SAMPLES}/{number:06}.json"


def sample_number(path: str) -> int | None:
    """The number of the sample at a path; None if the path is not a sample's."""
    name = _SAMPLE.fullmatch(path)
    return int(name[1]) if name else None


def artefacts_folder(image_id: str, attempt: str = "") -> str:
    """The folder of an image's artefacts. ``attempt``: which of the attempts at it; in runs of earlier
    versions all attempts shared one folder, which is that of no attempt."""
    return f"{IMAGES}/{image_id}/{attempt}" if attempt else f"{IMAGES}/{image_id}"


def shard_listing_path(digest: str) -> str:
    """The listing of a shard. ``digest``: sha256 of what identifies the shard, in hex digits."""
    return f"{SHARD_LISTINGS}/{digest}.parquet"


def snapshot_path(image_id: str) -> str:
    """The snapshot of an image's unfinished work."""
    return f"{PROGRESS}/{image_id}{_SNAPSHOT}"


def snapshot_image_id(path: str) -> str | None:
    """The image whose snapshot is at a path; None if the path is not a snapshot's."""
    image_id = path.removeprefix(f"{PROGRESS}/").removesuffix(_SNAPSHOT)
    return image_id if path == snapshot_path(image_id) else None
