"""Judge the images of a run again under other thresholds, from what their rows keep.

``originality rejudge RUN --threshold 0.4``, or ``python -m jobs.rejudge``. Loads no model and draws nothing.
Verdicts and report are written to a separate run folder.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from cluster.run.folder import RunFolder, open_run, plan
from cluster.run.layout import INPUTS, SAMPLES, record_path
from cluster.run.record import artefacts_of
from cluster.run.turn import exclusive_turn
from cluster.storage.checksums import json_bytes
from cluster.storage.store import NotFound, Store, open_store
from jobs.auditing.damaged import warn_of_damage
from jobs.auditing.report_data import verdict_of, write_report
from jobs.auditing.report_pictures import PARALLEL_REQUESTS
from jobs.auditing.suitability import UNSUITED
from jobs.auditing.verdict_table import SCHEMA, summarise
from jobs.commandline import exits
from originality.contract.config import SettingsError
from originality.contract.settings_files import one_line
from originality.evaluation.rejudge import NEEDS_SWEEP, Thresholds, keeps_distances, rejudged
from originality.settings import extensions
from originality.settings.audit import AuditSettings
from originality.settings.parts import THRESHOLDS

_log = logging.getLogger(__name__)

FROM = "rejudged_from"
"""Key of run.json: the run whose rows were judged again."""
_UNDECIDED = {"image_id", "note", "artefacts", "attempts", "worker", "finished_at"}
"""Columns that no decision changes. They stay as they are in the row, to the letter."""


def rejudge(
    run: RunFolder,
    output: str,
    threshold: float | None = None,
    in_distribution: float | None = None,
    artefacts: bool = True,
) -> tuple[RunFolder, Counter[str]]:
    """Write the run of an audit under other thresholds. An interrupted call is resumed by the same call.

    Args:
        output: run folder to write.
        threshold: of the distance; None: the run's own.
        in_distribution: threshold of the in-distribution check; None: the run's own.
        artefacts: copy pictures and learned words as well.

    Returns:
        The new run, and its number of rows by status; by error class for those that failed.

    Raises:
        SettingsError: the run keeps no distances, or a threshold is invalid.
        RunMismatch: the output holds another run.
    """
    thresholds, settings = _thresholds(run, threshold, in_distribution)
    _check_distances(run)
    description = {k: v for k, v in run.description.items() if k not in ("created_at", "layout")}
    same = thresholds.new == thresholds.old
    digest = description.get("settings_digest") if same else thresholds.new.digest()
    identity = {**description, "settings": settings, "settings_digest": digest, FROM: run.store.url}
    sample = {key: identity.pop(key) for key in ("sample",) if key in identity}
    planned = plan(
        run.manifest.source, open_store(output), identity, listing=lambda _: run.manifest, noted=sample
    )
    with exclusive_turn(planned, _log.warning) as heartbeat:
        for found in [*run.store.list(INPUTS), *run.store.list(SAMPLES)]:
            planned.store.write(found.path, run.store.read(found.path))
        counts = _write_records(run, planned.store, thresholds, digest, artefacts)
        heartbeat.check()
        planned = RunFolder(planned.store)
        planned.ledger.compact(SCHEMA)
        kept = (UNSUITED, "calibration", "calibration_doubts") if same else (UNSUITED,)
        earlier = {key: value for key, value in run.summary().items() if key in kept}
        planned.write_summary({**summarise(planned), **earlier})
        write_report(planned, before=heartbeat.check)
    return planned, counts


def _thresholds(
    run: RunFolder, threshold: float | None, in_distribution: float | None
) -> tuple[Thresholds, dict[str, Any]]:
    """Settings of the run and with the new thresholds, and the latter as run.json holds them."""
    recorded = run.description.get("settings") or {}
    changed = {part: dict(recorded.get(part) or {}) for part in ("distance", "in_distribution")}
    for part, value in (("distance", threshold), ("in_distribution", in_distribution)):
        if value is not None:
            changed[part]["threshold"] = value
    settings = {**recorded, **changed}
    try:
        old, new = (AuditSettings.model_validate(values) for values in (recorded, settings))
    except ValidationError as error:
        raise SettingsError(one_line(error, AuditSettings)) from error
    return Thresholds(old, new, _largest(old.distance.metric)), settings


def _largest(metric: str) -> float:
    """Largest distance of a metric. It is 1 for this package's own (a test compares them)."""
    if metric in (*THRESHOLDS, "imagenet") or metric not in extensions.names(extensions.METRICS):
        return 1.0
    return float(getattr(extensions.factory_of(extensions.METRICS, metric), "largest", 1.0))


def _check_distances(run: RunFolder) -> None:
    verdicts = (verdict_of(row) for row in run.ledger.rows() if row["status"] == "judged")
    kept = next((True for verdict in verdicts if keeps_distances(verdict)), False)
    if not kept and not run.empty:
        raise SettingsError(
            f"no row of {run.store.url} keeps its distances (versions before this one kept none); audit its "
            "collection again into another folder, with the new threshold"
        )


def _write_records(
    run: RunFolder, store: Store, thresholds: Thresholds, digest: str | None, artefacts: bool
) -> Counter[str]:
    counts: Counter[str] = Counter()
    done = set(RunFolder(store).ledger.recorded().to_pylist())
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as copiers:
        for row in run.ledger.rows():
            new = _row(row, thresholds, digest)
            counts[new["error_class"] if new["status"] == "failed" else new["status"]] += 1
            if row["image_id"] in done:
                continue
            if artefacts:
                folder = artefacts_of(row)
                names = [found.path for found in run.store.list(folder)]
                list(copiers.map(_copier(run.store, store), names))
            store.create(record_path(row["image_id"]), json_bytes(new))
    return counts


def _row(row: Mapping[str, Any], thresholds: Thresholds, digest: str | None) -> dict[str, Any]:
    """A row under the new thresholds; images that were not judged keep their reason."""
    if thresholds.new == thresholds.old:
        return dict(row)
    verdict = verdict_of(row)
    if verdict.status != "judged":
        return {**row, "settings_digest": digest}
    decided = rejudged(verdict, thresholds).model_dump(mode="json", exclude=_UNDECIDED)
    return {**row, **decided, "settings_digest": digest}


def _copier(source: Store, target: Store) -> Callable[[str], None]:
    def copy(path: str) -> None:
        with suppress(NotFound):
            target.write(path, source.read(path))

    return copy


def name_beside(run: str, threshold: float | None, in_distribution: float | None) -> str:
    """The default folder: beside the run, named by the thresholds."""
    parts = [run.rstrip("/")]
    parts += [f"threshold-{threshold:g}"] if threshold is not None else []
    parts += [f"in-distribution-{in_distribution:g}"] if in_distribution is not None else []
    return "-".join(parts)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("run_folder", metavar="run", help="run folder of an audit")
    parser.add_argument("--threshold", type=float, metavar="T", help="new distance.threshold")
    parser.add_argument(
        "--in-distribution-threshold", type=float, metavar="T", help="new in_distribution.threshold"
    )
    parser.add_argument(
        "--out", help="run folder to write (default: beside the run, named by the thresholds)"
    )
    parser.add_argument(
        "--no-artefacts", action="store_true", help="do not copy pictures and learned words of the run"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    distance, check = arguments.threshold, arguments.in_distribution_threshold
    if distance is None and check is None:
        raise SettingsError("give --threshold, --in-distribution-threshold or both")
    source = open_run(arguments.run_folder, "audit")
    out = arguments.out or name_beside(arguments.run_folder, distance, check)
    rejudged_run, counts = rejudge(source, out, distance, check, not arguments.no_artefacts)
    warn_of_damage(source)
    failed = {name: count for name, count in counts.items() if name not in ("judged", "rejected")}
    print(", ".join(f"{counts[name]} {name}" for name in ("judged", "rejected", *failed)))
    if counts[NEEDS_SWEEP]:
        print(_advice(counts[NEEDS_SWEEP], out))
    print(f"{rejudged_run.store.url}/report/index.html")
    return exits.SOME_UNJUDGED if failed or counts["rejected"] else exits.ALL_JUDGED


def _advice(count: int, out: str) -> str:
    rows = "1 row needs" if count == 1 else f"{count} rows need"
    return (
        f"{rows} a longer sweep; to judge them: originality retry {shlex.quote(out)} --status failed "
        f"--reason {NEEDS_SWEEP}, then the audit's command with the new thresholds and this --out"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m jobs.rejudge``; the exit code."""
    return exits.main("originality rejudge", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
