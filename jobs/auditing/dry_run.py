"""Dry run of an audit: reads and decodes every image, loads no model, writes nothing."""

from __future__ import annotations

import logging
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

from cluster.driver.progress import Progress
from cluster.inputs.decoder import Decoder
from cluster.inputs.identities import image_id_of
from cluster.inputs.images import Limits, Rejection, check_size
from cluster.inputs.listing import scan
from cluster.inputs.manifest import Manifest, Selection
from cluster.inputs.readable import check_readable
from cluster.inputs.sources import Unreadable, read_image
from cluster.inputs.table_options import DEFAULTS, TableOptions
from cluster.ray_runtime.runtime import available_cpus
from cluster.storage.parallel import map_in_order
from jobs.auditing.sampled import check_sample
from jobs.auditing.suitability import warn
from jobs.commandline import exits, process
from originality.settings.audit import AuditSettings

_log = logging.getLogger(__name__)


def dry_run(
    settings: AuditSettings,
    source: str | Sequence[str],
    selection: Selection,
    limits: Limits = Limits(),
    table_options: TableOptions = DEFAULTS,
) -> int:
    """List on stdout the images that an audit would reject, on stderr the skipped files; the exit code."""
    manifest = scan(source, table_options)
    if manifest.skipped:
        _log.warning("%s", manifest.skipped_text)
    check_readable(manifest)
    check_sample(selection, manifest)
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
    """Number, image_id, and reason (code and message) of a rejection or None, for each input in order."""
    # A decoder is a subprocess that serves one caller at a time, so each thread has one.
    per_thread = threading.local()
    decoders: list[Decoder] = []

    def check(number: int) -> tuple[int, str | None, tuple[str, str] | None]:
        if not hasattr(per_thread, "decoder"):
            per_thread.decoder = Decoder(limits)
            decoders.append(per_thread.decoder)
        image_id = None
        try:
            data = read_image(
                manifest.uri(number),
                lambda size: check_size(size, limits) if size else None,
                manifest.location(number),
            )
            image_id = image_id_of(data)
            per_thread.decoder.decode(data)
        except (Unreadable, Rejection) as bad:
            return number, image_id, (bad.reason_code, bad.message)
        return number, image_id, None

    try:
        yield from map_in_order(check, numbers, available_cpus())
    finally:
        for decoder in decoders:
            decoder.close()
