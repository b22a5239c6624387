"""Compare how well variants of the settings learn pseudo-words; the settings of ``fast`` were chosen by this.

Words of given numbers of tokens are learned for images that no benchmark judges, and all are redrawn with the
same settings. For each word the noise loss is measured over noise draws that no inversion saw, the same for
every variant, and the distance of its redraws. Words in the results file are not learned again.
``python -m originality.bench.learning --out docs/bench/words.jsonl [--variants NAME ...]``
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from originality.bench.variants import FAST, GROUPS, REDUCED, WITHOUT, Variant
from originality.experiments.held_out import Query, keep, kept, queries
from originality.inversion.inverter import invert
from originality.inversion.lane import Lane
from originality.model.randomness import keyed_generator
from originality.settings.audit import AuditSettings
from originality.sweep.sweep import Sweep

FIRST = 300
"""Number of each group's first image, far from the images that the benchmarks judge."""

DRAWS = 192
"""Noise draws of an image over which a word's loss is measured, their timesteps spread evenly."""


def _tens(**settings: Any) -> dict[str, Any]:
    """Inversion settings with steps of ten samples, as an earlier version of the preset had them."""
    first = {"batch_size": 10, "steps": 180, "cycle": 20, "cooldown": 20, "tolerance": 0.02}
    return {"inversion": {**first, **settings}}


def _fresh_tens(steps: int, cooldown: int = 40) -> dict[str, Any]:
    return _tens(stop="never", cycle=None, steps=steps, cooldown=cooldown)


_THREES = {"inversion": {"batch_size": 3, "steps": 520, "cycle": 60, "cooldown": 100, "tolerance": 0.02}}
_SOONER = {"inversion": {"tolerance": 0.1, "cooldown": 40}}

TRIED = (
    Variant("threes", "520 steps of 3 samples at most, cycles of 60, until under 2 %", flags=_THREES),
    Variant("later", "until under 2 %", flags={"inversion": {"tolerance": 0.02}}),
    Variant("sooner", "until under 10 %, 40 to cool down", flags=_SOONER),
    Variant("tens", "180 steps of 10 at most, cycles of 20, until under 2 %", flags=_tens()),
    Variant("tens-early", "cycles of 10, until under 5 %", flags=_tens(cycle=10, tolerance=0.05)),
    Variant("tens-cycle-10", "cycles of 10", flags=_tens(cycle=10)),
    Variant("tens-cycle-40", "cycles of 40", flags=_tens(cycle=40, cooldown=40, steps=200)),
    Variant("tens-longer", "240 of them at most", flags=_tens(steps=240)),
    Variant("tens-fresh-120", "120 of them, each of its own draws", flags=_fresh_tens(120)),
    Variant("tens-fresh-160", "160 of them", flags=_fresh_tens(160)),
    Variant("tens-fresh-160-80", "160, half of them cooling down", flags=_fresh_tens(160, 80)),
    Variant("tens-fresh-180", "180 of them", flags=_fresh_tens(180)),
    Variant("half-rate", "steps half as large", flags={"inversion": {"learning_rate": 5e-3}}),
    Variant("twice-rate", "steps twice as large", flags={"inversion": {"learning_rate": 2e-2}}),
)
"""Alternatives to the preset's settings that were tried."""

_SAME_LEARNING = {"whole", "pndm", "not-ahead", "apart"}
"""Variants that differ from the preset in judging alone, and so learn the same words."""

LEARNING = {v.name: v for v in (REDUCED, FAST, *TRIED, *WITHOUT) if v.name not in _SAME_LEARNING}


def settings_of(variant: Variant) -> AuditSettings:
    """The variant's settings with the preset's redraws, so that variants differ in learning alone."""
    return variant.settings(0).model_copy(update={"redraw": FAST.settings(0).redraw})


def key_of(variant: Variant) -> dict[str, str]:
    """Columns of the results file that identify a variant with its present settings."""
    return {"variant": variant.name, "inversion_digest": settings_of(variant).digest()}


def learn(variant: Variant, chosen: Iterable[tuple[Query, int]], results: Path) -> None:
    """Learn the words that the results file does not have yet, and add a line for each."""
    key = key_of(variant)
    done = {(row["image_id"], row["tokens"]) for row in kept(results, key)}
    waiting = [(query, m) for query, m in chosen if (query.image_id, m) not in done]
    if not waiting:
        return
    sweep = Sweep(settings_of(variant))
    for lane, picture in learned(sweep, waiting):
        row = {**_found(sweep, lane, picture), **key}
        keep(results, row)
        result = f"{row['samples']} samples, loss {row['loss']:.4f}, distance {row['distance']:.2f}"
        print(f"{variant.name}: {lane.image_id}, m={lane.tokens}: {result}", flush=True)


def learned(sweep: Sweep, chosen: Sequence[tuple[Query, int]]) -> Iterator[tuple[Lane, np.ndarray]]:
    """Learn words of the given numbers of tokens, as many at once as there are lanes.

    Yields:
        The finished lane, and the image as the model sees it, uint8 (side, side, 3).
    """
    for k in range(0, len(chosen), sweep.inverter.lanes):
        now = chosen[k : k + sweep.inverter.lanes]
        pictures = [sweep.model.fit(query.scene.image()) for query, _ in now]
        moments = [sweep.inverter.encode(picture) for picture in pictures]
        named = [(query.image_id, of, m) for (query, m), of in zip(now, moments, strict=True)]
        yield from zip(invert(sweep.inverter, named), pictures, strict=True)


def _found(sweep: Sweep, lane: Lane, picture: np.ndarray) -> dict[str, Any]:
    redraws = sweep.draw(lane.image_id, lane.vectors.detach(), sweep.settings.redraw.prompt)
    return {
        "image_id": lane.image_id,
        "tokens": lane.tokens,
        "samples": lane.step * sweep.settings.inversion.batch_size,
        "loss": word_losses(sweep, lane).mean().item(),
        "distance": float(np.mean(distances(sweep, redraws, picture))),
    }


def distances(sweep: Sweep, redraws: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Distances of redraws, uint8 (n, side, side, 3), from an image as the model sees it: float64 (n,)."""
    (query,) = sweep.distance.embed(picture[None])
    return np.asarray(sweep.distance.between(query, sweep.distance.embed(redraws)), np.float64)


@torch.no_grad()
def word_losses(sweep: Sweep, lane: Lane) -> Tensor:
    """Mean squared error of each of DRAWS noise predictions, float32 (DRAWS,), from least to most noise."""
    model, moments = sweep.model, lane.moments
    rng = keyed_generator("how well a word is learned", lane.image_id)
    times = (torch.arange(DRAWS) + 0.5) / DRAWS * len(model.alphas_cumprod)
    posterior, noise = torch.randn((2, DRAWS, *moments.mean.shape), generator=rng)
    templates = sweep.domain.templates
    words = model.encode_prompts(list(templates), lane.vectors.detach().expand(len(templates), -1, -1))
    losses = []
    for part in torch.arange(DRAWS).split(48):
        clean, eps, t = moments.mean + moments.std * posterior[part], noise[part], times[part].long()
        predicted = model.predict(model.add_noise(clean, eps, t), t, words.select(part % len(templates)))
        losses.append((predicted - model.target(clean, eps, t)).square().flatten(1).mean(1))
    return torch.cat(losses)


def table(results: Path) -> str:
    """Compare every variant with ``reduced`` over the words that both learned, as a Markdown table.

    Samples a word, and the differences of loss and distance with the standard error of their mean. Both
    variants' words are redrawn from the same noise, so that the root mean square difference of their
    distances comes from training alone.
    """
    threshold = FAST.settings(0).distance.threshold
    lines = [
        "| variant | words | step samples a word | loss more than reduced's, thousandths | distance more "
        "| distance apart | same side of the threshold |",
        "|---" * 7 + "|",
    ]
    rows = {v.name: {_word(row): row for row in kept(results, key_of(v))} for v in LEARNING.values()}
    for name, found in rows.items():
        words = sorted(found.keys() & rows[REDUCED.name].keys())
        if not words:
            continue
        ours, theirs = ([of[word] for word in words] for of in (found, rows[REDUCED.name]))
        loss = [1e3 * (a["loss"] - b["loss"]) for a, b in zip(ours, theirs, strict=True)]
        far = [a["distance"] - b["distance"] for a, b in zip(ours, theirs, strict=True)]
        same = [
            (a["distance"] < threshold) == (b["distance"] < threshold)
            for a, b in zip(ours, theirs, strict=True)
        ]
        cells = [
            f"{name}: {LEARNING[name].says}",
            str(len(words)),
            f"{fmean(row['samples'] for row in ours):.0f}",
            _mean(loss, 2),
            _mean(far, 3),
            f"{np.square(far).mean() ** 0.5:.3f}",
            f"{fmean(same):.0%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", _gain_of_a_token(rows[REDUCED.name])])


def _gain_of_a_token(reduced: Mapping[tuple[str, int], dict[str, Any]]) -> str:
    """How much one more token lowers the loss, over images that have words of both lengths."""
    gains = []
    for tokens in sorted({m + 1 for _, m in reduced}):
        both = [image for image, m in reduced if m == tokens and (image, m - 1) in reduced]
        less = [reduced[image, tokens - 1]["loss"] - reduced[image, tokens]["loss"] for image in both]
        gains += [f"{1e3 * fmean(less):.1f} by token {tokens}"] if less else []
    return f"reduced's loss comes down by a token more, in thousandths: {', '.join(gains)}"


def _word(row: dict[str, Any]) -> tuple[str, int]:
    return row["image_id"], row["tokens"]


def _mean(values: Sequence[float], digits: int) -> str:
    return f"{fmean(values):+.{digits}f} ± {np.std(values) / len(values) ** 0.5:.{digits}f}"


def main() -> None:
    """Run ``python -m originality.bench.learning``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variants", nargs="*", choices=LEARNING, default=list(LEARNING))
    parser.add_argument("--images", type=int, default=2, help="of each group")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    images = queries(GROUPS, range(FIRST, FIRST + arguments.images))
    for name in arguments.variants:
        learn(LEARNING[name], [(query, m) for query in images for m in arguments.tokens], arguments.out)
    print(table(arguments.out))


if __name__ == "__main__":
    main()
