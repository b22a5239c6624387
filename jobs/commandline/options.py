"""What a person gave, in YAML files and by flags: settings of the science and of the engine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import ValidationError

from cluster.inputs.manifest import Selection
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

_ASSUMED_DOMAIN = "houses"
"""The first of the paper's domains in Section 4.2."""

GPU = {"auto": None, "cpu": False, "cuda": True}
"""By device: whether a worker holds a GPU; None takes one where there is one."""


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the science."""
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.yaml",
        help="settings; may be given again, a later file beats an earlier one, and flags beat all",
    )
    parser.add_argument("--preset", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument(
        "--model",
        help="diffusers folder or .safetensors file, local or in a bucket; name on the hub; or 'shapes'",
    )
    parser.add_argument(
        "--domain",
        help=f"what the images show, for initial word and templates: {', '.join(DOMAINS)}, or your own",
    )
    parser.add_argument("--max-tokens", type=int, metavar="M", help="the sweep ends here")
    parser.add_argument("--seed", type=int, help="of every random number (default: 0)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY.PATH=VALUE", help="any other setting"
    )


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the engine."""
    parser.add_argument("--min-workers", type=int, metavar="N", help="hired at once (default: the room)")
    parser.add_argument(
        "--max-workers",
        type=int,
        metavar="N",
        help="most at once; more than there is room for asks a cluster for machines",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where a worker judges")
    parser.add_argument("--accelerators", metavar="L4,A10G", help="GPU types that may be used")
    parser.add_argument("--snapshot-every", type=float, metavar="SECONDS", help="work that a death may cost")
    parser.add_argument("--max-cost", type=float, metavar="USD", help="stops in good order at this cost")
    parser.add_argument("--deadline", metavar="8h|DATE", help="stops in good order then")


def add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that choose among the inputs of a run."""
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N inputs, this time")
    parser.add_argument("--sample", type=int, metavar="N", help="only N inputs, drawn at random by --seed")
    parser.add_argument("--shard", metavar="i/n", help="only every n-th input from the i-th on")


def selection_of(arguments: argparse.Namespace, seed: int) -> Selection:
    """Raises:
    SettingsError: with the fix.
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
    return Selection(arguments.limit, arguments.sample, seed, shard)


def settings_of(
    arguments: argparse.Namespace,
    over: Mapping[str, Any] = MappingProxyType({}),
    *,
    run: str | None = None,
    any_domain: bool = False,
) -> AuditSettings:
    """Settings of the science from preset, files and flags.

    Args:
        over: those that the job insists on, by dotted path.
        run: folder of the run that is resumed, if there is one: where no domain is given, its domain is used.
        any_domain: nothing is judged, so where no domain is given, one is assumed. Both are said on stderr.

    Raises:
        SettingsError: with the fix.
    """
    check_cache()
    flags = assignments(arguments)
    flags.pop("cluster", None)
    given = {
        "model.path": arguments.model,
        "model.device": getattr(arguments, "device", None),
        "domain": arguments.domain,
        "max_tokens": arguments.max_tokens,
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
        if (begun := _domain_of(run)) is not None:
            flags["domain"] = begun
            sys.stderr.write(f"domain {begun}, as the run in {run} was begun with\n")
        elif any_domain:
            flags["domain"] = _ASSUMED_DOMAIN
            sys.stderr.write(f"domain {_ASSUMED_DOMAIN} is assumed; an audit must be given one (--domain)\n")
        else:
            raise
        return load_settings(arguments.preset, arguments.config, flags)


def _domain_of(run: str | None) -> str | None:
    """The domain that a run was begun with; None where there is no such run."""
    if run is None:
        return None
    try:
        settings = open_run(run).description.get("settings")
    except NotFound:
        return None
    return settings.get("domain") if isinstance(settings, Mapping) else None


def cluster_settings_of(arguments: argparse.Namespace) -> ClusterSettings:
    """Settings of the engine: the files' part "cluster", and flags.

    Raises:
        SettingsError: with the fix.
    """
    parts = [(f"{file}:", read_yaml(file).get("cluster") or {}) for file in arguments.config]
    parts.append(("--set", assignments(arguments).get("cluster", {})))
    values: dict[str, Any] = {}
    for name, part in parts:
        if not isinstance(part, Mapping):
            raise SettingsError(f"{name} 'cluster' must hold settings, like max_workers")
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
    """Whether the bound on cost can hold, as far as it is known before Ray runs which workers there will be.

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
    """Whether workers may have one: a cluster's are elsewhere."""
    if on_cluster():
        return True
    import torch

    return torch.cuda.is_available()


def assignments(arguments: argparse.Namespace) -> dict[str, Any]:
    """What ``--set`` gave, nested."""
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


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` over ``base``, mapping by mapping."""
    both = dict(base)
    for key, value in over.items():
        inner = both.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            both[key] = merged(inner, value)
        else:
            both[key] = value
    return both


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, key = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"--set {path}: {parent!r} has a value and parts at once")
    tree[key] = value
