"""Compare samplers and numbers of steps on redraws of the same pseudo-words.

Words are learned as in preset ``fast``, for images that no benchmark judges. Each is redrawn from the same
noise with every sampler, and with the first sampler also from other noise, as a scale for the differences.
``python -m originality.bench.samplers --out docs/bench/sampling.json``
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from originality.bench.learning import FIRST, distances, learned
from originality.bench.variants import FAST, GROUPS
from originality.cost.operations import denoising_steps
from originality.experiments.held_out import Query, queries
from originality.inversion.lane import Lane
from originality.settings.audit import AuditSettings
from originality.settings.redraw import RedrawSettings
from originality.sweep.sweep import Sweep

SAMPLERS: tuple[tuple[Any, int], ...] = (
    *(("pndm", 35), ("pndm", 50), ("dpm++", 20), ("dpm++", 15), ("dpm++", 10)),
    *(("unipc", 15), ("unipc", 10), ("ddim", 15), ("euler", 15)),
)
"""Samplers with their steps. The first two are the published ones, for Stable Diffusion v1-4 and for the
synthetic setting."""

OTHER_NOISE = "other noise"


def measure(
    settings: AuditSettings,
    chosen: Sequence[tuple[Query, int]],
    samplers: Sequence[tuple[Any, int]] = SAMPLERS,
) -> dict[str, Any]:
    """Learn the words and redraw them with every sampler.

    Returns:
        "threshold"; "passes", the UNet passes of a redraw without guidance, by sampler; "words", each with
        its image, number of tokens and "distances", of every redraw by sampler.
    """
    sweep, redraw = Sweep(settings), settings.redraw
    how = {f"{kind} {n}": redraw.model_copy(update={"scheduler": kind, "steps": n}) for kind, n in samplers}
    first, words = next(iter(how)), []
    for lane, picture in learned(sweep, chosen):
        found = {name: _drawn(sweep, lane, picture, lane.image_id, of) for name, of in how.items()}
        found[OTHER_NOISE] = _drawn(sweep, lane, picture, f"{lane.image_id} again", how[first])
        words.append({"image_id": lane.image_id, "tokens": lane.tokens, "distances": found})
        print(f"{lane.image_id}, m={lane.tokens}: {np.mean(found[first]):.2f}", flush=True)
    passes = {name: denoising_steps(of) for name, of in how.items()}
    return {"threshold": settings.distance.threshold, "passes": passes, "words": words}


def _drawn(
    sweep: Sweep, lane: Lane, picture: np.ndarray, noise_of: str, redraw: RedrawSettings
) -> list[float]:
    """Distances of a word's redraws, drawn from the noise that belongs to the image id ``noise_of``."""
    noise = sweep.judge.noise(noise_of, lane.tokens, redraw.prompt, range(redraw.count))
    found: list[float] = distances(
        sweep, sweep.model.redraw(redraw.prompt, lane.vectors.detach(), noise, redraw), picture
    ).tolist()
    return found


def table(found: Mapping[str, Any]) -> str:
    """Each sampler compared with the first one, as a Markdown table.

    The correlation of the redraws' distances, the difference of the words' means with its standard error, and
    how often both are on the same side of the threshold.
    """
    words, threshold = found["words"], found["threshold"]
    first = next(iter(found["passes"]))
    each = {
        name: np.array([word["distances"][name] for word in words]) for name in words[0]["distances"]
    }  # (words, redraws)
    lines = [
        f"| sampler and steps | passes | correlation with {first}, by redraw | mean distance more "
        "| difference of a word's mean | same side of the threshold |",
        "|---" * 6 + "|",
    ]
    theirs = each[first]
    for name, ours in each.items():
        if name == first:
            continue
        more = ours.mean(1) - theirs.mean(1)
        same = (ours.mean(1) < threshold) == (theirs.mean(1) < threshold)
        cells = [
            f"{first}, {name}" if name == OTHER_NOISE else name,
            str(found["passes"].get(name, found["passes"][first])),
            f"{np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]:.2f}",
            f"{more.mean():+.3f} ± {more.std() / len(more) ** 0.5:.3f}",
            f"{np.abs(more).mean():.3f}",
            f"{same.mean():.0%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run ``python -m originality.bench.samplers``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="write the distances there as JSON")
    parser.add_argument("--images", type=int, default=2, help="of each group")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    if not arguments.out.exists():
        images = queries(GROUPS, range(FIRST, FIRST + arguments.images))
        found = measure(FAST.settings(0), [(query, m) for query in images for m in arguments.tokens])
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found) + "\n")
    print(table(json.loads(arguments.out.read_text())))


if __name__ == "__main__":
    main()
