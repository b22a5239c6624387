"""What an audit would reject: every image is read and decoded, no model loaded, nothing written."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice

from cluster.driver.progress import Progress
from cluster.inputs.decoder import Decoder
from cluster.inputs.identities import image_id_of
from cluster.inputs.images import Limits, Rejection, check_size
from cluster.inputs.listing import scan
from cluster.inputs.manifest import Manifest, Selection
from cluster.inputs.readable import check_readable
from cluster.inputs.sources import Unreadable, read_image
from cluster.ray_runtime.runtime import available_cpus
from jobs.auditing.suitability import warn
from jobs.commandline import exits, process
from originality.settings.audit import AuditSettings

_AT_ONCE = 8
"""Images that wait for each reader: enough to keep a bucket busy."""


def dry_run(settings: AuditSettings, source: str, selection: Selection, limits: Limits = Limits()) -> int:
    """Lists on stdout what would be rejected and why, on stderr which files were skipped; the exit code."""
    manifest = scan(source)
    if manifest.skipped:
        sys.stderr.write(f"{manifest.skipped_text}\n")
    check_readable(manifest)
    numbers = [int(number) for number in selection.numbers(manifest)]
    warn(settings, manifest, numbers)
    progress = Progress(len(numbers), sys.stderr)
    progress.began()
    distinct: set[str] = set()
    reasons: Counter[str] = Counter()
    with closing(progress):
        for number, image_id, reason in _checked(manifest, numbers, limits):
            distinct.add(image_id or manifest.uri(number))
            progress.settled("rejected" if reason else "fine")
            progress.show("checking")
            if reason:
                reasons[reason[0]] += 1
                print(process.one_line(f"{manifest.path(number)!r}: {reason[0]}: {reason[1]}"))
    for code, count in reasons.most_common():
        print(f"{count} {code}")
    print(
        f"{len(numbers)} inputs, {len(distinct)} distinct images, {reasons.total()} would be rejected, "
        f"{manifest.skipped} other files skipped"
    )
    return exits.SOME_UNJUDGED if reasons else exits.ALL_JUDGED


def _checked(
    manifest: Manifest, numbers: Iterable[int], limits: Limits
) -> Iterator[tuple[int, str | None, tuple[str, str] | None]]:
    """number, image_id, and reason code and message of what would be rejected, in order."""
    mine = threading.local()
    decoders: list[Decoder] = []

    def check(number: int) -> tuple[int, str | None, tuple[str, str] | None]:
        if not hasattr(mine, "decoder"):
            mine.decoder = Decoder(limits)
            decoders.append(mine.decoder)
        image_id = None
        try:
            data = read_image(manifest.uri(number), lambda size: check_size(size, limits) if size else None)
            image_id = image_id_of(data)
            mine.decoder.decode(data)
        except (Unreadable, Rejection) as bad:
            return number, image_id, (bad.reason_code, bad.message)
        return number, image_id, None

    readers = available_cpus()
    waiting = iter(numbers)
    try:
        with ThreadPoolExecutor(readers) as pool:
            while batch := list(islice(waiting, readers * _AT_ONCE)):
                yield from pool.map(check, batch)
    finally:
        for decoder in decoders:
            decoder.close()
