"""How well each variant learns pseudo-words: how the settings of ``fast`` were chosen.

Words of given numbers of tokens are learned for images that no benchmark judges, and all are redrawn alike.
Of each is told what the noise loss is over draws that no inversion saw, the same for every variant, and how
far its redraws are. What is there is not learned again.
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
"""Number of each group's first image: far from those that are judged."""

DRAWS = 192
"""Noise draws of an image that a word's loss is taken over, their timesteps spread evenly."""


def _tens(**settings: Any) -> dict[str, Any]:
    """Steps of ten samples, as the preset had them at first."""
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
"""The preset otherwise."""

_OF_JUDGING = {"whole", "pndm", "not-ahead", "apart"}
"""Variants that learn as the preset does."""

LEARNING = {v.name: v for v in (REDUCED, FAST, *TRIED, *WITHOUT) if v.name not in _OF_JUDGING}


def settings_of(variant: Variant) -> AuditSettings:
    """The variant's, its words redrawn as the preset does: differences are then of learning alone."""
    return variant.settings(0).model_copy(update={"redraw": FAST.settings(0).redraw})


def key_of(variant: Variant) -> dict[str, str]:
    return {"variant": variant.name, "inversion_digest": settings_of(variant).digest()}


def learn(variant: Variant, asked: Iterable[tuple[Query, int]], results: Path) -> None:
    """Words that have no line yet; a line each."""
    key = key_of(variant)
    done = {(row["image_id"], row["tokens"]) for row in kept(results, key)}
    waiting = [(query, m) for query, m in asked if (query.image_id, m) not in done]
    if not waiting:
        return
    sweep = Sweep(settings_of(variant))
    for lane, picture in learned(sweep, waiting):
        row = {**_found(sweep, lane, picture), **key}
        keep(results, row)
        told = f"{row['samples']} samples, loss {row['loss']:.4f}, distance {row['distance']:.2f}"
        print(f"{variant.name}: {lane.image_id}, m={lane.tokens}: {told}", flush=True)


def learned(sweep: Sweep, asked: Sequence[tuple[Query, int]]) -> Iterator[tuple[Lane, np.ndarray]]:
    """Words of so many tokens for images, as many at once as there are lanes; and the images as fitted."""
    for k in range(0, len(asked), sweep.inverter.lanes):
        now = asked[k : k + sweep.inverter.lanes]
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
    """Of redraws, uint8 (n, side, side, 3), from a fitted image: float64 (n,)."""
    (query,) = sweep.distance.embed(picture[None])
    return np.asarray(sweep.distance.between(query, sweep.distance.embed(redraws)), np.float64)


@torch.no_grad()
def word_losses(sweep: Sweep, lane: Lane) -> Tensor:
    """Mean squared error of each of DRAWS predictions, float32 (DRAWS,), from the least noise to the most."""
    model, moments = sweep.model, lane.moments
    rng = keyed_generator("how well a word is learned", lane.image_id)
    times = (torch.arange(DRAWS) + 0.5) / DRAWS * len(model.alphas_cumprod)
    posterior, noise = torch.randn((2, DRAWS, *moments.mean.shape), generator=rng)
    templates = sweep.domain.templates
    words = model.encode_prompts(list(templates), lane.vectors.detach().expand(len(templates), -1, -1))
    losses = []
    for part in torch.arange(DRAWS).split(48):
        clean, eps, t = moments.mean + moments.std * posterior[part], noise[part], times[part].long()
        said = model.predict(model.add_noise(clean, eps, t), t, words.select(part % len(templates)))
        losses.append((said - model.target(clean, eps, t)).square().flatten(1).mean(1))
    return torch.cat(losses)


def table(results: Path) -> str:
    """Every variant's samples a word, and its loss and distance less those that ``reduced`` came to, in
    Markdown; with the standard error of the mean over the words that both learned. Both are redrawn from the
    same noise, so that how far their distances are apart (root mean square) is of training alone."""
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
    return "\n".join([*lines, "", _scale(rows[REDUCED.name])])


def _scale(reduced: Mapping[tuple[str, int], dict[str, Any]]) -> str:
    """What a token more brings, of images that have words of both lengths."""
    told = []
    for tokens in sorted({m + 1 for _, m in reduced}):
        both = [image for image, m in reduced if m == tokens and (image, m - 1) in reduced]
        less = [reduced[image, tokens - 1]["loss"] - reduced[image, tokens]["loss"] for image in both]
        told += [f"{1e3 * fmean(less):.1f} by token {tokens}"] if less else []
    return f"reduced's loss comes down by a token more, in thousandths: {', '.join(told)}"


def _word(row: dict[str, Any]) -> tuple[str, int]:
    return row["image_id"], row["tokens"]


def _mean(values: Sequence[float], digits: int) -> str:
    return f"{fmean(values):+.{digits}f} ± {np.std(values) / len(values) ** 0.5:.{digits}f}"


def main() -> None:
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
