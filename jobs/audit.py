"""The audit: how many pseudo-words does each image of a collection need?

``python -m jobs.audit INPUT --out OUTPUT``, or ``originality audit``.
"""

from __future__ import annotations

import argparse
import functools
import socket
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from cluster import driver, images
from cluster.manifest import Entry, scan
from cluster.runfolder import RunFolder, plan
from cluster.store import absolute, open_store
from cluster.weights import local_copy
from cluster.worker import ScorerFactory, Task
from jobs import exits
from jobs.verdicts import SCHEMA, blank, min_tokens_text, summarise
from originality.scoring import Scorer
from originality.settings import PRESETS, AuditSettings, SettingsError, load_settings

_TABLE_ROWS = 40
_NAME_WIDTH = 60
_GPU = {"auto": None, "cpu": False, "cuda": True}


def audit(
    settings: AuditSettings,
    source: str,
    output: str,
    *,
    factory: ScorerFactory,
    digests: Mapping[str, str],
    limit: int | None = None,
    workers: int | None = None,
    memory: int = Task.memory,
) -> int:
    """Judges what has no record yet, then tells. The exit code.

    ``limit``: only the first images of the manifest in this run; a later run without it goes on
    with the rest. ``workers``: most at once; None is as many as there is room for, each on CPU with
    ``memory`` bytes.
    """
    run = plan(source, open_store(output), identity(settings, source, digests))
    wanted = run.manifest.images()[:limit]
    recorded = run.ledger.recorded()
    todo = [(e, run.manifest.path(e)) for e in wanted if e.image_id not in recorded]
    if todo:
        open_store(run.manifest.source, create=False)  # a collection that is gone is said before Ray starts
        task = Task(run.store.url, run.manifest.source, factory, blank(settings), memory)
        driver.run(task, todo, gpu=_GPU[settings.model.device], workers=workers)
    run.ledger.compact(SCHEMA)
    summary = summarise(run)
    run.write_summary(summary)
    _tell(run)
    unjudged = summary["rejected"] + summary["failed"]
    return exits.SOME_UNJUDGED if unjudged else exits.ALL_JUDGED


def identity(settings: AuditSettings, source: str, digests: Mapping[str, str]) -> dict[str, Any]:
    """All that decides the verdicts: a resume with anything else is refused.

    ``digests``: of all weights that have a say (originality.sweep.preflight).
    """
    try:
        code_version = version("originality")
    except PackageNotFoundError:
        code_version = "unknown"
    return {
        "job": "audit",
        "input": absolute(source),
        "settings": settings.model_dump(mode="json"),
        "settings_digest": settings.digest(),
        "model": settings.model.path,
        **digests,
        "code_version": code_version,
    }


def dry_run(source: str) -> int:
    """Reads and decodes every image, loads no model, lists what would be rejected."""
    manifest = scan(source)
    store = open_store(manifest.source, create=False)
    rejections = 0
    for entry in manifest.images():
        try:
            images.check_size(entry.bytes)
            images.decode(store.read(manifest.path(entry)))
        except images.Rejection as rejection:
            rejections += 1
            print(f"{manifest.path(entry)!r}: {rejection.reason_code}: {rejection.message}")
    inputs = _count(manifest.entries)
    print(f"{inputs}, {rejections} would be rejected, {manifest.skipped} other files skipped")
    return exits.SOME_UNJUDGED if rejections else exits.ALL_JUDGED


def _count(entries: Sequence[Entry]) -> str:
    return f"{len(entries)} inputs, {len({e.image_id for e in entries})} distinct images"


def _tell(run: RunFolder) -> None:
    """A short table, and as the last line the report's path."""
    from jobs.report import write_report

    rows = list(run.inputs())
    width = min(max(len(repr(row["path"])) for row in rows[:_TABLE_ROWS]), _NAME_WIDTH)
    print(f"{'image':{width}}  min tokens  status")
    for row in rows[:_TABLE_ROWS]:
        reason = f" ({row['error_class']})" if row.get("error_class") else ""
        # repr: a file's name may hold anything, terminal commands included
        print(f"{row['path']!r:{width}}  {min_tokens_text(row):10}  {row['status']}{reason}")
    if len(rows) > _TABLE_ROWS:
        print(f"and {len(rows) - _TABLE_ROWS} more")
    print(write_report(run))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="folder, s3://, gs:// or az:// prefix, or one image")
    parser.add_argument("--out", help="run folder; the same one resumes")
    parser.add_argument("--config", type=Path, metavar="FILE.yaml", help="settings; flags beat it")
    parser.add_argument("--preset", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--model", help="diffusers folder, or 'shapes': the model that ships")
    parser.add_argument("--domain", help="initial word and templates")
    parser.add_argument("--max-tokens", type=int, metavar="M", help="the sweep ends here")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images, this time")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="most at once (default: one a GPU, or one a CPU where memory allows)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only check the images")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY.PATH=VALUE", help="any other setting"
    )


def settings_of(arguments: argparse.Namespace) -> AuditSettings:
    """Settings from preset, file and flags.

    Raises:
        SettingsError: with the fix.
    """
    flags: dict[str, Any] = {}
    for assignment in arguments.set:
        path, equals, value = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--set {assignment!r}: write it as key.path=value")
        try:
            _put(flags, path, yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise SettingsError(f"--set {assignment!r}: the value is not valid YAML") from error
    given = {
        "model.path": arguments.model,
        "domain": arguments.domain,
        "max_tokens": arguments.max_tokens,
        "seed": arguments.seed,
    }
    for path, value in given.items():
        if value is not None:
            _put(flags, path, value)
    return load_settings(arguments.preset, arguments.config, flags)


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, key = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"--set {path}: {parent!r} has a value and parts at once")
    tree[key] = value


def scorer_of(settings: AuditSettings, model_digest: str) -> Scorer:
    """What a worker calls once: the model brought to the worker's node and loaded.

    Raises:
        SettingsError: the node has another model under that name than the run was planned with.
    """
    from originality.sweep import build_scorer

    scorer = build_scorer(settings, _model_on_this_node(settings))
    if scorer.model.digest != model_digest:
        raise SettingsError(
            f"model {settings.model.path!r} has the digest {scorer.model.digest} on {socket.gethostname()}, "
            f"and {model_digest} where the run was started; give all nodes the same model"
        )
    return scorer


def _model_on_this_node(settings: AuditSettings) -> Path | None:
    from originality.diffusion import PARTS

    return local_copy(settings.model.path, PARTS, revision=settings.model.revision)


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    if arguments.limit is not None and arguments.limit < 1:
        raise SettingsError(f"--limit {arguments.limit}: give 1 or more")
    if arguments.workers is not None and arguments.workers < 1:
        raise SettingsError(f"--workers {arguments.workers}: give 1 or more")
    if arguments.dry_run:
        return dry_run(arguments.input)
    if not arguments.out:
        raise SettingsError("--out is missing: name a folder for the results")
    if absolute(arguments.out) == absolute(arguments.input):
        raise SettingsError("--out is the input itself: name another folder for the results")
    # The science is heavy to import, so only a job that is sure to start pays for it.
    from originality.diffusion import weights_bytes
    from originality.sweep import preflight

    folder = _model_on_this_node(settings)
    digests = preflight(settings, folder)
    return audit(
        settings,
        arguments.input,
        arguments.out,
        factory=functools.partial(scorer_of, settings, digests["model_digest"]),
        digests=digests,
        limit=arguments.limit,
        workers=arguments.workers,
        # weights are read as stored, then turned into fp32; torch and the judges take the rest
        memory=Task.memory + 3 * weights_bytes(settings.model, folder),
    )


def main(argv: Sequence[str] | None = None) -> int:
    return exits.main("originality audit", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
