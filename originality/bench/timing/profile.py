"""Profile an audit on the CPU with torch's profiler: how much of its time each part of the method takes.

An audit consists of a few kinds of work: images are admitted, optimiser steps are taken, redraws are drawn
and judged. All calls of a kind are timed. Of the steps, which are alike, only one in a few is also profiled,
and the shares of its parts are applied to the time of all. The time between calls counts as the sweep's own.
``python -m originality.bench.timing.profile --out docs/bench/profile.json``
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity

from originality.bench.timing.paired import audit
from originality.bench.timing.profiler_scopes import (
    METRIC,
    OURS,
    SCOPE,
    TEXT,
    TEXT_BACK,
    UNET,
    UNET_BACK,
    VAE,
    mark_scopes,
    scope,
)
from originality.bench.variants import FIRST, GROUPS
from originality.experiments.held_out import Query, queries
from originality.settings.audit import AuditSettings
from originality.settings.presets import load_settings
from originality.sweep.sweep import Sweep

NETWORKS = (UNET, UNET_BACK, VAE, METRIC)
BETWEEN = "the sweep between passes"


@dataclass
class Kind:
    """Times of one kind of an audit's work."""

    every: int
    """One call in this many is profiled."""
    calls: int = 0
    seconds: float = 0.0
    """Seconds of all calls."""
    profiled: int = 0
    profiled_seconds: float = 0.0
    profiling: float = 0.0
    """Seconds that the profiler itself took, before and after the profiled work."""
    scopes: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds of the profiled calls by scope, without those of the scopes inside it."""
    rest: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds of torch's operations outside all scopes, by name."""

    def __call__(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function: each call is timed, and one in ``every`` profiled."""

        def call(*args: Any) -> Any:
            profile = self.calls % self.every == 0
            self.calls += 1
            done, seconds = (self._profiled if profile else _timed)(work, *args)
            self.seconds += seconds
            return done

        return call

    def _profiled(self, work: Callable[..., Any], *args: Any) -> tuple[Any, float]:
        started = time.perf_counter()
        with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as profiler, scope(OURS):
            done, seconds = _timed(work, *args)
        attribute(profiler.events() or (), self.scopes, self.rest)
        self.profiled, self.profiled_seconds = self.profiled + 1, self.profiled_seconds + seconds
        self.profiling += time.perf_counter() - started - seconds
        return done, seconds

    def parts(self) -> dict[str, float]:
        """Seconds of all calls, by scope."""
        total = sum(self.scopes.values())
        return {name: self.seconds * own / total for name, own in self.scopes.items()}

    def summary(self) -> dict[str, Any]:
        """Calls, seconds and the largest operations, as JSON values."""
        each = {op: 1e3 * seconds / self.profiled for op, seconds in _largest(self.rest)[:8]}
        return {
            "calls": self.calls,
            "seconds": self.seconds,
            "profiled": self.profiled,
            "in_scopes": sum(self.scopes.values()) / self.profiled_seconds if self.profiled else None,
            "parts": self.parts(),
            "operations_of_the_rest_ms_a_call": each,
        }


def _timed(work: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    started = time.perf_counter()
    done = work(*args)
    return done, time.perf_counter() - started


def attribute(
    events: Sequence[FunctionEvent], scopes: defaultdict[str, float], rest: defaultdict[str, float]
) -> None:
    """Add each moment to the innermost scope around it, and each outermost operation of OURS to its name."""
    (outer,) = (event for event in events if event.name == SCOPE + OURS)
    begin, done = _span(outer)
    operation_until = last = begin
    inside: list[tuple[float, str]] = []  # end and name of the scopes that are open

    def until(now: float) -> None:
        nonlocal last
        while inside:
            end, name = inside[-1]
            scopes[name] += min(now, end) - last
            last = min(now, end)
            if end > now:
                return
            inside.pop()

    own = [(*_span(e), e.name) for e in events if e.thread == outer.thread]
    for start, end, name in sorted(own, key=lambda event: (event[0], -event[1])):
        if not begin <= start <= done:
            continue
        if name.startswith(SCOPE):
            until(start)
            inside.append((end, name.removeprefix(SCOPE)))
        elif start >= operation_until:
            until(start)
            operation_until = end
            if inside[-1][1] == OURS:
                rest[name] += end - start
    until(done)


def _span(event: FunctionEvent) -> tuple[float, float]:
    """Start and end in seconds."""
    return event.time_range.start / 1e6, event.time_range.end / 1e6


def measure(settings: AuditSettings, chosen: Sequence[Query], every: int = 10) -> dict[str, Any]:
    """Audit images and profile it; loading the model is not counted.

    Args:
        every: one step in this many is profiled.

    Returns:
        Seconds and shares of the total by part; the share of UNet, VAE and metric, without and with the text
        encoder; and each kind of work by itself.
    """
    sweep = Sweep(settings)
    mark_scopes(sweep)
    kinds = {"admitting": Kind(1), "steps": Kind(every), "redraws": Kind(1)}
    for name, owner, method in (
        ("admitting", sweep, "admit"),
        ("steps", sweep.inverter, "advance"),
        ("redraws", sweep.judge, "advance"),
    ):
        setattr(owner, method, kinds[name](getattr(owner, method)))  # of this one sweep alone
    judged, seconds = _timed(audit, sweep, chosen)
    seconds -= sum(kind.profiling for kind in kinds.values())
    parts: defaultdict[str, float] = defaultdict(float)
    for kind in kinds.values():
        for name, own in kind.parts().items():
            parts[name] += own
    parts[BETWEEN] = seconds - sum(kind.seconds for kind in kinds.values())
    networks = sum(parts[name] for name in NETWORKS) / seconds
    text = (parts[TEXT] + parts[TEXT_BACK]) / seconds
    return {
        "threads": torch.get_num_threads(),
        "settings": settings.model_dump(mode="json", include={"inversion", "redraw", "max_tokens"}),
        "images": [own.image_id for own in chosen],
        "tokens_judged": sum(len(done.record["sweep"]) for done in judged),
        "seconds": seconds,
        "parts": {name: {"seconds": own, "share": own / seconds} for name, own in _largest(parts)},
        "unet_vae_metric": networks,
        "unet_vae_metric_text": networks + text,
        "kinds": {name: kind.summary() for name, kind in kinds.items()},
    }


def _largest(of: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(of.items(), key=lambda own: -own[1])


def table(found: Mapping[str, Any]) -> str:
    """Seconds and shares of the parts of an audit, as lines of text."""
    rows = [f"{'part':<28}{'seconds':>9}{'share':>8}"]
    rows += [f"{n:<28}{own['seconds']:>9.1f}{own['share']:>8.1%}" for n, own in found["parts"].items()]
    rows.append(f"{'UNet, VAE and metric':<37}{found['unet_vae_metric']:>8.1%}")
    rows.append(f"{'the same and text encoder':<37}{found['unet_vae_metric_text']:>8.1%}")
    return "\n".join(rows)


def main() -> None:
    """Run ``python -m originality.bench.timing.profile``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="fast-shapes")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=1)
    parser.add_argument("--steps", type=int, help="fewer than the preset's, for a quick look")
    parser.add_argument("--every", type=int, default=10, help="one step in this many is profiled")
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    arguments = parser.parse_args()
    flags: dict[str, Any] = {"model": {"device": "cpu"}, "max_tokens": arguments.max_tokens}
    if arguments.steps:
        flags["inversion"] = {"steps": arguments.steps, "cooldown": 0}
    numbers = range(FIRST, FIRST + -(-arguments.images // len(GROUPS)))
    chosen = queries(GROUPS, numbers)[: arguments.images]
    found = measure(load_settings(arguments.preset, None, flags), chosen, arguments.every)
    print(table(found))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
