"""Write the model card: the training, its times, and how well the model draws what prompts ask for.

``python -m originality.training.shapes_model.card`` measures the model in its folder and writes README.md,
scores.json, losses.png and samples.png beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image

from originality.evaluation.redraw_sheet import sheet
from originality.model.diffusers_folder import MODELS
from originality.model.diffusion import LatentDiffusion
from originality.settings.parts import ModelSettings
from originality.shapes.detector import Detector
from originality.shapes.elements import Element, caption_of, elements_of
from originality.shapes.image_sets import CommonRareUnseenSet, Scene, TaughtSet, generator, pixels
from originality.shapes.motifs import GROUP_SHARE
from originality.training.shapes_model.prompting import BATCH, SETTINGS, Drawn, exactness, score_prompts
from originality.training.shapes_model.recipe import ShapesRecipe
from originality.training.stage import default_folder

matplotlib.use("Agg")

PAIRS = 200
"""Number of prompts for each kind of pair."""


def pair_scenes(kind: str, count: int = PAIRS) -> list[Scene]:
    """Scenes of two elements of one kind.

    Args:
        kind: "common", "rare" or "unseen" pairs of Appendix E.1, or "composed" ones, as in the free
        compositions
            of the training set.
    """
    scenes: list[Scene] = []
    index = 0
    while len(scenes) < count:
        index += 1
        if kind == "composed":
            scene = TaughtSet().scene(2, index)
            if scene.group != "composed" or len(scene.placed) != 2:
                continue
        else:
            scene = CommonRareUnseenSet().pair(kind, generator("card", kind, index))
        scenes.append(scene)
    return scenes


def ceiling(model: LatentDiffusion, detector: Detector, scenes: Sequence[Scene]) -> dict[str, float]:
    """Share of the renderer's own images that the detector reads as exact, plain and autoencoded.

    It is the most that a model could reach.
    """
    renders = pixels(scenes)
    batches = [renders[k : k + BATCH] for k in range(0, len(renders), BATCH)]
    again = [model.decode(torch.stack([model.encode(p).mean for p in batch])) for batch in batches]
    prompted = [scene.elements for scene in scenes]
    return {
        name: round(exactness(detector, prompted, images), 3)
        for name, images in (("renders", renders), ("autoencoder", np.concatenate(again)))
    }


def measure(
    model: LatentDiffusion, detector: Detector, pairs: int = PAIRS
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Scores of every kind of prompt, and a row of samples for each; ``pairs`` prompts for each kind of
    pair."""
    prompted: dict[str, tuple[list[tuple[Element, ...]], list[str]]] = {}
    for kind in ("composed", "common", "rare", "unseen"):
        prompts = [scene.caption for scene in pair_scenes(kind, pairs)]
        prompted[f"pairs, {kind}"] = ([elements_of(p) for p in prompts], prompts)
    for group in GROUP_SHARE:
        motifs = TaughtSet().motifs_of(group)
        names = [f"a photo of {m.name}" for m in motifs]
        prompted[f"{group} motifs by name"] = ([m.elements for m in motifs], names)
    for group in ("familiar", "unseen"):
        motifs = TaughtSet().motifs_of(group)
        words = [caption_of(sorted(m.elements, key=lambda e: e.index)) for m in motifs]
        prompted[f"{group} motifs by description"] = ([m.elements for m in motifs], words)
    scores, rows = {}, []
    for kind, (elements, prompts) in prompted.items():
        drawn: Drawn = score_prompts(model, detector, elements, prompts)
        scores[kind] = {
            "prompts": len(prompts),
            "exact": round(drawn.exact, 3),
            "f1": round(drawn.f1, 3),
        }
        print(f"{kind}: {scores[kind]}", flush=True)
        rows.append(drawn.images[:8])
    return scores, rows


def stages(folder: Path) -> tuple[str, ...]:
    """Names of the stages of a model folder's training."""
    recipe = ShapesRecipe.model_validate_json((folder / "recipe.json").read_text())
    return ("autoencoder", *(f"denoiser-{k + 1}" for k in range(len(recipe.denoiser.steps))))


def plot_losses(curves: dict[str, Any], file: Path) -> None:
    """Plot the stages' loss curves, smoothed over 50 steps."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(4 * len(curves), 3), layout="constrained")
    for axis, (stage, curve) in zip(axes, curves.items(), strict=True):
        loss = np.array(curve["loss"])
        smooth = np.convolve(loss, np.ones(50) / 50, mode="valid")
        axis.plot(np.arange(len(smooth)) + 50, smooth, color="#0072b2", linewidth=1)
        axis.set(title=stage, xlabel="step", ylabel="loss", yscale="log")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def write_card(folder: Path, training: Path, pairs: int = PAIRS) -> None:
    """Measure the model in ``folder`` and write its card; ``training`` holds the stages' loss curves."""
    model = LatentDiffusion(ModelSettings(path=str(folder), device="cpu"))
    detector = Detector.load()
    scores, rows = measure(model, detector, pairs)
    most = ceiling(model, detector, pair_scenes("composed", pairs))
    for stage in stages(folder):
        if (training / f"{stage}.json").exists():
            shutil.copy(training / f"{stage}.json", folder / f"{stage}-losses.json")
    curves = {s: json.loads((folder / f"{s}-losses.json").read_text()) for s in stages(folder)}
    plot_losses(curves, folder / "losses.png")
    page = sheet(rows)
    page.resize((page.width * 2, page.height * 2), Image.Resampling.NEAREST).save(
        folder / "samples.png", optimize=True
    )
    found = {
        "model": model.digest,
        "sampler": SETTINGS.model_dump(),
        "prompts": scores,
        "composed pairs at most": most,
    }
    (folder / "scores.json").write_text(json.dumps(found, indent=1) + "\n")
    recipe = (folder / "recipe.json").read_text().strip()
    (folder / "README.md").write_text(_card(scores, most, curves, recipe))


def _card(scores: dict[str, Any], most: dict[str, float], curves: dict[str, Any], recipe: str) -> str:
    table = "\n".join(
        f"| {kind} | {s['prompts']} | {100 * s['exact']:.1f} % | {s['f1']:.3f} |"
        for kind, s in scores.items()
    )
    times = "\n".join(
        f"| {stage} | {c['step']} | {c['seconds'] / 60:.0f} min | {np.mean(c['loss'][-200:]):.4f} |"
        for stage, c in curves.items()
    )
    return CARD.format(
        table=table,
        times=times,
        recipe=recipe,
        samples="\n".join(f"{k + 1}. {kind}" for k, kind in enumerate(scores)),
        detector=json.loads((MODELS / "detector" / "scores.json").read_text())["renders"],
        renders=100 * most["renders"],
        autoencoder=100 * most["autoencoder"],
        composed=100 * scores["pairs, composed"]["exact"],
        familiar=100 * scores["familiar motifs by name"]["exact"],
        scarce=100 * scores["scarce motifs by name"]["exact"],
    )


CARD = """# The model of the world of shapes

A small Stable Diffusion (64 px, 8x down to 8 x 8 latents of 8 channels), trained from nothing on the seeded
images of `originality.shapes.image_sets.TaughtSet`, to measure originality where everything that the model
ever saw is known. It knows nothing but shapes on white.

    make train-shapes   # train and measure it and write this card: hours on two cores, resumes

Load it with `diffusers.StableDiffusionPipeline.from_pretrained(DIR)`. Licence: Apache-2.0, like the code.

## Training set

100,000 images; image i is a pure function of (set, seed 0, i):

| share | images |
|---|---|
| 10 % | empty |
| 30 % | the common pair of the paper's Appendix E.1: big full circle and big full square, colours vary |
| 0.1 % | its rare pair: big full circle and big full triangle |
| 0 | its unseen pair: square and triangle, in no image together, whatever their size and texture |
| 20 x 1 % | *familiar* motifs: 20 compositions of three elements |
| 20 x 0.1 % | *rare* motifs |
| 20 x 0.02 % | *scarce* motifs |
| 0 | *unseen* motifs: 20 more of the same draw |
| the rest | 1..4 of all 60 elements, at most one of circle, square, triangle, never exactly a motif |

All 80 motifs are drawn at once and assigned to the groups in the order of the draw: the groups differ in how
often the model saw their members, in having names, and by chance. A motif in the training set has an
invented name, which 70 % of its captions use (language names what is frequent); the others describe it in
full ("big red full hexagon and ..."). An unseen motif has no name. 10 % of captions are empty, 5 % say only
"shape", half are set in a template ("a photo of ...").

## Training

| stage | steps | wall time (2 shared cores) | last loss |
|---|---|---|---|
{times}

![Loss curves](losses.png)

The full recipe (seed 0):

```json
{recipe}
```

## Does it draw what prompts ask for?

**Answer.** Of images of any two elements {composed:.1f} % show exactly these; the most that can be reached is
{autoencoder:.1f} %. Of motifs, three elements asked for by name, familiar ones are exact in {familiar:.1f} %
and scarce ones in {scarce:.1f} %.

**Caveat.** The scores are a detector's, and there are few prompts for motifs.

One image is drawn for each prompt, with 25 steps of DPM-Solver++ and a guidance scale of 3. *Exact* is the
share of images that show exactly the elements asked for, at 0.9 confidence of the
[detector](../detector/README.md), overlaps included. (On held-out renders its precision is
{detector[precision]:.4f} and its recall {detector[recall]:.3f}.) *Composed* pairs are any two of the 60
elements, as in the training set's free compositions. Upper bounds for these: the renderer's own images of
the captions are detected as exact in {renders:.1f} %, after the autoencoder in {autoencoder:.1f} %.

| prompts | number | exact | mean F1 |
|---|---|---|---|
{table}

![Samples](samples.png)

Rows of the sheet:

{samples}
"""


def main() -> None:
    """Run ``python -m originality.training.shapes_model.card``."""
    parser = argparse.ArgumentParser(description="Measure the model and write its card.")
    parser.add_argument("--model", type=Path, default=MODELS / "shapes")
    parser.add_argument("--training", type=Path, default=default_folder())
    parser.add_argument("--pairs", type=int, default=PAIRS, help="prompts of each kind of pair")
    arguments = parser.parse_args()
    write_card(arguments.model, arguments.training, arguments.pairs)


if __name__ == "__main__":
    main()
