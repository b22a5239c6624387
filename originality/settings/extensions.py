"""Metrics and detectors that other packages bring, or that Python code registers.

A package names them by entry points in its pyproject.toml:

    [project.entry-points."originality.metrics"]
    my-metric = "my_package:MyMetric"

They are then valid values of ``distance.metric`` and ``in_distribution.detector``. Workers on other machines
need the package too. Objects given to :func:`register` are known to this process only.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from originality.contract.config import SettingsError

METRICS = "originality.metrics"
"""Entry points called as ``factory(settings, device)`` that return a
:class:`originality.evaluation.distance.Distance`. An attribute ``threshold`` of the factory is the default of
``distance.threshold``."""
DETECTORS = "originality.detectors"
"""Entry points called as ``factory(subject, settings, device)`` that return a
:class:`originality.evaluation.in_distribution.subject_by_classes.SubjectDetector`."""

BUILT_IN = {METRICS: ("elements", "dreamsim", "imagenet"), DETECTORS: ("imagenet", "detr", "clip")}
"""Names of this package's own metrics and detectors. Others of these names are not used."""

_registered: dict[str, dict[str, Callable[..., Any]]] = {METRICS: {}, DETECTORS: {}}


def register(group: str, name: str, factory: Callable[..., Any]) -> None:
    """Register a metric or detector under a name in this process, replacing one of the same name."""
    _registered[group][name] = factory


def names(group: str) -> list[str]:
    """Sorted names of all that are known in addition to the built-in ones."""
    known = {*_registered[group], *(point.name for point in entry_points(group=group))}
    return sorted(known - {*BUILT_IN[group]})


def factory_of(group: str, name: str) -> Callable[..., Any]:
    """The factory of the metric or detector with this name.

    Raises:
        SettingsError: its package cannot be imported.
    """
    if name in _registered[group]:
        return _registered[group][name]
    (point, *_) = entry_points(group=group, name=name)
    try:
        loaded: Callable[..., Any] = point.load()
    except Exception as error:  # any package's own code runs there
        package = point.dist.name if point.dist else point.value
        cause = f"{type(error).__name__}: {error}"
        raise SettingsError(
            f"cannot load {name!r} of the package {package!r} ({cause}); repair or reinstall it"
        ) from error
    return loaded
