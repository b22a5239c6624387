"""Options that commands share: settings of the audit and of the engine, from YAML files and flags."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import ValidationError

from cluster.inputs.manifest import ALLOCATIONS, Selection
from cluster.inputs.table_options import TableOptions
from cluster.ray_runtime.ray_address import on_cluster
from cluster.run.folder import open_run
from cluster.settings import ClusterSettings
from cluster.storage.store import NotFound
from originality.contract.config import SettingsError, nearest
from originality.contract.node_cache import check_cache
from originality.contract.settings_files import one_line, read_yaml
from originality.settings.audit import AuditSettings, DomainMissing
from originality.settings.domains import DOMAINS
from originality.settings.presets import PRESETS, load_settings

_log = logging.getLogger(__name__)

_ASSUMED_DOMAIN = "houses"
"""Domain of commands that judge nothing: the first of the paper's domains in Section 4.2."""

GPU = {"auto": None, "cpu": False, "cuda": True}
"""Whether a worker holds a GPU, by device; None: a GPU if there is one."""


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the audit's settings."""
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.yaml",
        help="settings file; may be repeated: later files override earlier ones, and flags override files",
    )
    parser.add_argument("--preset", help=f"set of default settings: {', '.join(PRESETS)}")
    parser.add_argument(
        "--model",
        help="model to audit: a diffusers folder or .safetensors file, local or in a bucket; a name on the "
        "Hugging Face hub; or 'shapes', the small model that ships",
    )
    parser.add_argument(
        "--domain",
        help="what the images show; chooses the initial word and the prompt templates: "
        f"{', '.join(DOMAINS)}, or one that a settings file defines",
    )
    parser.add_argument("--max-tokens", type=int, metavar="M", help="largest number of tokens that is tried")
    parser.add_argument(
        "--confirm",
        type=float,
        metavar="P",
        help="draw more redraws, up to redraw.most, while a verdict is less sure than this probability",
    )
    parser.add_argument("--seed", type=int, help="seed of all random numbers (default: 0)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="any other setting, by its path, such as inversion.steps=500; may be repeated",
    )


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the engine's settings."""
    parser.add_argument(
        "--min-workers",
        type=int,
        metavar="N",
        help="number of workers to start with (default: as many as Ray has free resources for)",
    )
    parser.add_argument(
        "--max-workers",
        type=int,
        metavar="N",
        help="largest number of workers; more than Ray has resources for makes its autoscaler add machines",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="device that workers use")
    parser.add_argument(
        "--accelerators", metavar="L4,A10G", help="GPU types that workers may use (default: any)"
    )
    parser.add_argument(
        "--snapshot-every",
        type=float,
        metavar="SECONDS",
        help="time between snapshots of an image's progress: what is lost when a worker dies",
    )
    parser.add_argument(
        "--max-cost", type=float, metavar="USD", help="stop at this cost; the same command resumes the run"
    )
    parser.add_argument(
        "--deadline",
        metavar="8h|DATE",
        help="stop after this time or at this date; the same command resumes the run",
    )


def add_list_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how a list, or a table that holds the images, is read."""
    parser.add_argument(
        "--columns",
        metavar="A,B",
        help="columns of a list or table to keep, separated by commas (default: all; '' for none)",
    )
    parser.add_argument(
        "--image-column",
        metavar="NAME",
        help="the column of a Parquet or Arrow file that holds the images (default: the only one that may)",
    )
    parser.add_argument(
        "--delimiter",
        metavar="CHARACTER",
        help="what separates the cells of a CSV list, or 'tab' (default: , ; tab or |, as its header shows)",
    )


def table_options_of(arguments: argparse.Namespace) -> TableOptions:
    """How ``--columns``, ``--image-column`` and ``--delimiter`` say that a list or table is read.

    Raises:
        SettingsError: the delimiter is not one character.
    """
    columns = None
    if arguments.columns is not None:
        columns = tuple(name.strip() for name in arguments.columns.split(",") if name.strip())
    delimiter = {"tab": "\t", "\\t": "\t"}.get(arguments.delimiter, arguments.delimiter)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
        raise SettingsError(f"--delimiter {arguments.delimiter!r}: give one character, or tab")
    return TableOptions(columns, arguments.image_column, delimiter)


def add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose among the inputs of a run."""
    parser.add_argument("--limit", type=int, metavar="N", help="judge only the first N inputs this time")
    parser.add_argument(
        "--sample", type=int, metavar="N", help="judge only N inputs, chosen at random by --seed"
    )
    parser.add_argument(
        "--by", metavar="COLUMN", help="with --sample: take inputs of every value of this column of the list"
    )
    parser.add_argument(
        "--allocation",
        choices=ALLOCATIONS,
        help="with --by: inputs of each value in proportion to their number (default), as many of each, or "
        "more where scores of verdicts so far differ more",
    )
    parser.add_argument("--shard", metavar="i/n", help="judge only every n-th input, starting with the i-th")


def selection_of(arguments: argparse.Namespace, seed: int) -> Selection:
    """The inputs that ``--limit``, ``--sample``, ``--by``, ``--allocation`` and ``--shard`` choose.

    Raises:
        SettingsError: a value is invalid.
    """
    for name in ("limit", "sample"):
        given = getattr(arguments, name)
        if given is not None and given < 1:
            raise SettingsError(f"--{name} {given}: give 1 or more")
    shard = (1, 1)
    if arguments.shard is not None:
        number, _, of = arguments.shard.partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise SettingsError(f"--shard {arguments.shard!r}: write it as i/n with i from 1 to n, e.g. 1/8")
        shard = int(number), int(of)
    for name, needs in (("by", "sample"), ("allocation", "by")):
        if getattr(arguments, name) is not None and getattr(arguments, needs) is None:
            raise SettingsError(f"--{name} says how a sample is drawn: give --{needs} too")
    allocation = arguments.allocation or "proportional"
    return Selection(arguments.limit, arguments.sample, seed, shard, arguments.by, allocation)


def settings_of(
    arguments: argparse.Namespace,
    over: Mapping[str, Any] = MappingProxyType({}),
    *,
    run: str | None = None,
    any_domain: bool = False,
) -> AuditSettings:
    """Settings of the audit from preset, files and flags.

    Without a domain, a command uses the one of the run that it resumes, or an assumed one where it judges
    nothing; either is reported on stderr.

    Args:
        over: settings that the command fixes, by dotted path. They override all others.
        run: folder of a run that may exist already.
        any_domain: the command judges nothing, so a missing domain is no error.

    Raises:
        SettingsError: a setting is invalid, unknown or missing.
    """
    check_cache()
    flags = assignments(arguments)
    flags.pop("cluster", None)
    given = {
        "model.path": arguments.model,
        "model.device": getattr(arguments, "device", None),
        "domain": arguments.domain,
        "max_tokens": arguments.max_tokens,
        "redraw.confirm": arguments.confirm,
        "seed": arguments.seed,
    }
    for path, value in given.items():
        if value is not None:
            _put(flags, path, value)
    for path, value in over.items():
        _put(flags, path, value)
    try:
        return load_settings(arguments.preset, arguments.config, flags)
    except DomainMissing:
        if (previous := _domain_of(run)) is not None:
            flags["domain"] = previous
            _log.info("using domain %s, as in the run in %s", previous, run)
        elif any_domain:
            flags["domain"] = _ASSUMED_DOMAIN
            _log.info("assuming domain %s; an audit requires --domain", _ASSUMED_DOMAIN)
        else:
            raise
        return load_settings(arguments.preset, arguments.config, flags)


def _domain_of(run: str | None) -> str | None:
    """Domain of an existing run; None if there is no such run."""
    if run is None:
        return None
    try:
        settings = open_run(run).description.get("settings")
    except NotFound:
        return None
    return settings.get("domain") if isinstance(settings, Mapping) else None


def cluster_settings_of(arguments: argparse.Namespace) -> ClusterSettings:
    """Settings of the engine: the section ``cluster`` of the settings files, and flags.

    Raises:
        SettingsError: a setting is invalid or unknown.
    """
    parts = [(f"{file}:", read_yaml(file).get("cluster") or {}) for file in arguments.config]
    parts.append(("--set", assignments(arguments).get("cluster", {})))
    values: dict[str, Any] = {}
    for name, part in parts:
        if not isinstance(part, Mapping):
            raise SettingsError(f"{name} 'cluster' must be a mapping of settings, such as {{max_workers: 4}}")
        values.update(part)
    for name in ("min_workers", "max_workers", "snapshot_every", "max_cost", "deadline"):
        if getattr(arguments, name) is not None:
            values[name] = getattr(arguments, name)
    if arguments.accelerators is not None:
        values["accelerators"] = tuple(filter(None, arguments.accelerators.split(",")))
    unknown = next((key for key in values if key not in ClusterSettings.model_fields), None)
    if unknown is not None:
        raise SettingsError(
            f"unknown setting 'cluster.{unknown}'{nearest(str(unknown), ClusterSettings.model_fields)}"
        )
    try:
        return ClusterSettings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(one_line(error, ClusterSettings, "cluster.")) from error


def check_price(settings: AuditSettings, how: ClusterSettings) -> None:
    """Check that a limit on cost can be kept, as far as the kinds of workers are known before Ray runs.

    Raises:
        SettingsError: a kind of worker has no price.
    """
    if how.max_cost is None:
        return
    kinds: tuple[str, ...] = how.accelerators
    if settings.model.device == "cpu" or (settings.model.device == "auto" and not _gpu_possible()):
        kinds = ("CPU",)
    if (problem := how.unpriced(kinds)) is not None:
        raise SettingsError(problem)


def _gpu_possible() -> bool:
    """Whether workers may have a GPU. Those of a cluster are on other machines, so there it is possible."""
    if on_cluster():
        return True
    import torch

    return torch.cuda.is_available()


def assignments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Settings given by ``--set``, as nested mappings."""
    flags: dict[str, Any] = {}
    for assignment in arguments.set:
        path, equals, value = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--set {assignment!r}: write it as key.path=value")
        try:
            parsed = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise SettingsError(f"--set {assignment!r}: the value is not valid YAML") from error
        _put(flags, path, parsed)
    return flags


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, key = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"--set {path}: {parent!r} is also set to a value, so it cannot hold {key!r}")
    tree[key] = value
