"""Chooses thresholds from images that a person labelled common or original, measured with one token each.

``originality calibrate LABELLED --out FILE.yaml``, or ``python -m jobs.calibrate``. FILE.yaml is a settings
file for ``--config``; FILE.png shows the measurements behind it. After an interruption the same command
resumes.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml
from pydantic import ValidationError

from cluster.inputs.manifest import Selection
from cluster.ray_runtime.ray_address import on_cluster
from cluster.run.folder import RunFolder, open_run
from cluster.settings import ClusterSettings
from cluster.storage.store import NotFound, removing_empty_folders
from jobs.auditing.audit_run import audit_session, judge, plan_audit, unsuited
from jobs.auditing.labels import LabelledResults, Labels, check_enough, check_same, measured, read_labels
from jobs.auditing.prepare import PreparedAudit, check_first, prepare
from jobs.auditing.verdict_table import SCHEMA
from jobs.commandline import exits, options
from originality.calibration.report import few_images, figure, findings, thresholds
from originality.calibration.thresholds import FALSE_COMMON, KEPT, calibrate, method_digest, weaknesses
from originality.contract.config import SettingsError
from originality.contract.printable import printable
from originality.settings.audit import AuditSettings
from originality.settings.calibrated import Calibration
from originality.settings.roles import exhaustive

_log = logging.getLogger(__name__)

NO_USE = 4
"""Exit code: the file is written, with a warning that its thresholds do not distinguish the labels."""

_UNDECIDED = {
    **exhaustive(AuditSettings),
    "max_tokens": 1,
    "in_distribution.threshold": 0.0,
    "calibration": None,
}
"""Settings of a run that measures everything at one token. Both thresholds are 0 whatever the user's are, as
they are what is to be chosen: the same measurements then serve any of them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("labelled", help="CSV or Parquet list: a column of uris, and one of labels")
    parser.add_argument("--out", required=True, metavar="FILE.yaml", help="the settings file to write")
    parser.add_argument(
        "--label-column", default="label", metavar="NAME", help="column with the labels common and original"
    )
    parser.add_argument(
        "--false-common",
        type=float,
        default=FALSE_COMMON,
        metavar="RATE",
        help=f"largest share of original images misclassified as common (default {FALSE_COMMON})",
    )
    parser.add_argument(
        "--kept",
        type=float,
        default=KEPT,
        metavar="RATE",
        help=f"least share of common images that must pass the check (default {KEPT})",
    )
    parser.add_argument(
        "--run",
        dest="folder",
        metavar="DIR",
        help="run folder, default FILE.run; a run of the same list, also of an audit, is resumed",
    )
    options.add_settings_arguments(parser)
    options.add_cluster_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    out = _checked(arguments)
    labels = read_labels(arguments.labelled, arguments.label_column)
    how = options.cluster_settings_of(arguments)
    folder = arguments.folder or str(out.with_suffix(".run"))
    settings = _as_begun(folder, options.settings_of(arguments, _UNDECIDED, run=folder))
    check_first(settings, how, folder)
    prepared = prepare(settings)
    with removing_empty_folders(folder):
        found = measured(_judged(prepared, arguments.labelled, labels, folder, how), labels)
    check_enough(arguments.labelled, Counter(found.images.values()))
    calibration = _calibration(prepared, found, arguments.false_common, arguments.kept)
    lines = findings(calibration, found.common, found.original, found.left_out)
    weak = weaknesses(calibration)
    warnings = [f"useless: {reason}" for reason in weak] + few_images(calibration)
    origin = (_command(arguments), f"{calibration.created:%Y-%m-%d %H:%M} UTC", _model(prepared.settings))
    _put(out, _text((*origin, *lines, *(f"WARNING: {w}" for w in warnings)), prepared.settings, calibration))
    _put(out.with_suffix(".png"), figure(calibration, found.common, found.original))
    for line in lines:
        print(line)
    for warning in warnings:
        _log.warning("%s", warning)
    print(out)
    return NO_USE if weak else exits.ALL_JUDGED


def _checked(arguments: argparse.Namespace) -> Path:
    """Check the arguments before any image is measured, and return the file to write.

    Raises:
        SettingsError: an argument is invalid, or the file cannot be written.
    """
    out = Path(arguments.out)
    if out.suffix not in (".yaml", ".yml") or "://" in arguments.out:
        raise SettingsError("--out: name a local file that ends with .yaml")
    if not 0 <= arguments.false_common < 1:
        raise SettingsError(f"--false-common {arguments.false_common:g}: give a share from 0 to under 1")
    if not 0 < arguments.kept <= 1:
        raise SettingsError(f"--kept {arguments.kept:g}: give a share over 0 up to 1")
    if arguments.max_tokens not in (None, 1):
        raise SettingsError(
            "--max-tokens cannot be set here: thresholds are chosen from measurements at one token"
        )
    if not arguments.folder and on_cluster():
        raise SettingsError(
            "--run is missing: on a cluster the measurements need a folder that all machines reach"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out {arguments.out!r}: {error.strerror}") from error
    if out.is_dir() or not os.access(out if out.exists() else out.parent, os.W_OK):
        raise SettingsError(
            f"--out {arguments.out!r} cannot be written, or is a folder; name a different file"
        )
    return out


def _as_begun(folder: str, settings: AuditSettings) -> AuditSettings:
    """The settings of the run in a folder if it measures the same as these; otherwise these.

    An audit with one token measures the same whatever its thresholds are, so its run can serve a calibration.
    """
    try:
        begun = AuditSettings.model_validate(open_run(folder).description.get("settings"))
    except (NotFound, ValidationError):
        return settings
    undecided = {
        "max_tokens": 1,
        "model": begun.model.model_copy(update={"device": settings.model.device}),
        "distance": begun.distance.model_copy(update={"threshold": 0.0}),
        "in_distribution": begun.in_distribution.model_copy(update={"threshold": 0.0}),
        "calibration": None,
    }
    if begun.model_copy(update=undecided) != settings:
        return settings
    return begun.model_copy(update={"model": settings.model})


def _judged(
    prepared: PreparedAudit, labelled: str, labels: Labels, folder: str, how: ClusterSettings
) -> RunFolder:
    """Measure all images of the list, and return the run."""
    run = plan_audit(prepared, labelled, folder)
    check_same(run, labels)
    selection = Selection()
    with audit_session(run, selection, how.deadline) as session:
        unsuited(prepared, run, selection)
        judge(prepared, session, how)
        run = RunFolder(run.store)
        session.heartbeat.check()
        run.clear_snapshots()
        run.ledger.compact(SCHEMA)
    return run


def _calibration(
    prepared: PreparedAudit, found: LabelledResults, false_common: float, kept: float
) -> Calibration:
    labelled = "".join(f"{image_id} {label}\n" for image_id, label in sorted(found.images.items()))
    return Calibration(
        metric=prepared.settings.distance.metric,
        check=prepared.settings.in_distribution.check,
        model_digest=prepared.digests["model_digest"],
        judge_digest=prepared.digests["judge_digest"],
        method_digest=method_digest(prepared.settings),
        labels_digest=hashlib.sha256(labelled.encode()).hexdigest()[:16],
        created=datetime.now(UTC).replace(microsecond=0),
        **calibrate(found.common, found.original, false_common, kept),
    )


def _command(arguments: argparse.Namespace) -> str:
    words = ["originality", "calibrate", arguments.labelled]
    for name, value in vars(arguments).items():
        if name not in ("labelled", "run"):
            flag = "--run" if name == "folder" else f"--{name.replace('_', '-')}"
            given_values = value if isinstance(value, list) else [value]
            words += [word for one in given_values if one is not None for word in (flag, str(one))]
    return shlex.join(words)


def _model(settings: AuditSettings) -> str:
    revision = settings.model.revision
    return f"model {settings.model.path}" + (f" at {revision}" if revision else "")


def _text(header: Sequence[str], settings: AuditSettings, calibration: Calibration) -> bytes:
    """Content of the settings file: a comment with command and results, then the settings."""
    comment = "".join(f"# {printable(line)}\n" for line in header)
    body = thresholds(settings, calibration)
    return (comment + yaml.safe_dump(body, sort_keys=False, default_flow_style=None, width=110)).encode()


def _put(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as error:
        raise SettingsError(
            f"cannot write {file}: {error.strerror}; fix that and run the same command again to resume"
        ) from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m jobs.calibrate``; the exit code."""
    return exits.main("originality calibrate", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
