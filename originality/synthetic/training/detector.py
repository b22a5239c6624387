"""Train and measure the detector: ``python -m originality.synthetic.training.detector``.

Phase 1 learns from renders, some with worn elements (still what they are) and malformed ones (to
be passed over). Phase 2 gives the network more layers and goes on at a lower rate, on more crowded
images, a share of them sent through the autoencoder if that is trained. What ships is the weights'
average after phase 2, with its measured scores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from originality.synthetic.dataset import UniformSet, generator
from originality.synthetic.detector import MODEL_FOLDER, Detector, DetectorNet, to_ink
from originality.synthetic.training import autoencoder
from originality.synthetic.training.detector_images import TrainingImages, distort
from originality.synthetic.training.detector_scores import abstention, evaluate
from originality.synthetic.training.detector_targets import Targets, loss_of, targets
from originality.synthetic.training.recipe import Frozen, ShapesRecipe
from originality.synthetic.training.stage import default_folder, run_stage

HELD_OUT_SEED = 90_002
"""Seed of the renders that measure: no training and no choice of design saw it (90_001 did)."""

Rebuild = Callable[[np.ndarray], np.ndarray]


class DetectorRecipe(Frozen):
    """Every number of the detector's training."""

    seed: int = 7
    width: int = 64
    deep: int = 96
    refine: int = 2
    """Residual blocks that phase 2 adds."""
    batch_size: int = 32
    images: int = 40_000
    """Distinct images a phase; each is drawn once and kept in memory (12 kB)."""
    steps: int = 4500
    learning_rate: float = 4e-3
    second_steps: int = 4000
    second_rate: float = 2e-3
    weight_decay: float = 1e-3
    ema_decay: float = 0.995
    reconstructed: int = 4000
    """Images of phase 2 of which the well-formed ones are sent through the autoencoder."""
    reconstructed_share: float = 0.2
    """How often one of them is shown."""


def _phase(
    name: str,
    folder: Path,
    net: DetectorNet,
    recipe: DetectorRecipe,
    images: TrainingImages,
    rebuilt: dict[int, np.ndarray],
) -> None:
    """One phase; it leaves the averaged weights in the network.

    Args:
        rebuilt: some of the images after the autoencoder, uint8 (64, 64, 3), by index; or none.
    """
    net.to(memory_format=torch.channels_last)
    indices = list(rebuilt)

    def batch(step: int) -> tuple[Tensor, Targets]:
        rng = generator("detector batch", name, recipe.seed, step)
        truths, pictures, flips = [], [], rng.random(recipe.batch_size) < 0.5
        for k in range(recipe.batch_size):
            index = (step * recipe.batch_size + k) % recipe.images
            if indices and rng.random() < recipe.reconstructed_share:
                index = indices[rng.integers(len(indices))]
                picture, truth = rebuilt[index], images.item(index)[1]
            else:
                picture, truth = images.item(index)
                picture = distort(picture, rng)
            pictures.append(picture[:, ::-1] if flips[k] else picture)
            truths.append(truth)
        ink = to_ink(np.stack(pictures)).to(memory_format=torch.channels_last)
        return ink, targets(truths, flips.tolist())

    def loss_at(step: int) -> Tensor:
        ink, target = batch(step)
        return loss_of(net(ink), target)

    average = run_stage(
        name,
        folder,
        nn.ModuleDict({"net": net}),
        loss_at,
        steps=recipe.second_steps if images.crowded else recipe.steps,
        learning_rate=recipe.second_rate if images.crowded else recipe.learning_rate,
        warmup=100,
        weight_decay=recipe.weight_decay,
        ema_decay=recipe.ema_decay,
        recipe=recipe.model_dump_json(exclude={"steps", "second_steps"}),
    )
    average.swap()
    _settle(net, [batch(k)[0] for k in range(40)])
    net.to(memory_format=torch.contiguous_format)


@torch.no_grad()
def _settle(net: DetectorNet, batches: Sequence[Tensor]) -> None:
    """Measure the batch norms' means and variances anew: the averaged weights have others."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    net.train()
    for ink in batches:
        net(ink)
    net.eval()
    for norm in norms:
        norm.momentum = 0.1


def _reconstructions(folder: Path, count: int, images: TrainingImages) -> dict[int, np.ndarray]:
    """By index, the first well-formed images after the autoencoder; none if it is not trained.

    Malformed elements are left out: the autoencoder, which never saw a faded or a purple one, draws
    it as a proper element, and that is then no example of a malformed one.
    """
    kept = folder / "detector-crowded-reconstructions.npy"
    indices = [k for k in range(count) if not images.item(k)[1].malformed]
    if not kept.exists():
        if not (folder / "autoencoder.pt").exists():
            return {}
        np.save(kept, reconstructor(folder)(np.stack([images.item(k)[0] for k in indices])))
    return dict(zip(indices, np.load(kept), strict=True))


def reconstructor(folder: Path) -> Rebuild:
    """The trained autoencoder (averaged weights of its checkpoint) as a map of uint8 images."""
    state = torch.load(folder / "autoencoder.pt", weights_only=True)
    vae: Any = autoencoder.build(ShapesRecipe())
    module = nn.ModuleDict({"vae": vae})
    module.load_state_dict(state["modules"])
    for live, mean in zip(vae.parameters(), state["average"], strict=True):
        live.data = mean
    vae.eval().requires_grad_(False)

    def rebuild(images: np.ndarray) -> np.ndarray:
        parts = [images[k : k + 32] for k in range(0, len(images), 32)]
        return np.concatenate([autoencoder.reconstruct(vae, part) for part in parts])

    return rebuild


def train(recipe: ShapesRecipe, folder: Path, own: DetectorRecipe | None = None) -> Detector:
    """Train (or finish, or load) the detector, checkpoints in the folder.

    It takes the autoencoder's checkpoint from the folder, if it is there: train that first.
    """
    own = own or DetectorRecipe(seed=recipe.seed + 7)
    torch.manual_seed(own.seed)
    first = DetectorNet(own.width, own.deep, refine=0)
    _phase("detector", folder, first, own, TrainingImages(own.seed), {})
    net = DetectorNet(own.width, own.deep, own.refine)
    net.load_state_dict(first.state_dict(), strict=False)  # refine begins as the identity
    crowd = TrainingImages(own.seed + 1, crowded=True)
    rebuilt = _reconstructions(folder, own.reconstructed, crowd)
    _phase("detector-crowded", folder, net, own, crowd, rebuilt)
    return Detector(net)


def save(detector: Detector, own: DetectorRecipe, folder: Path) -> None:
    """Write weights (fp16) and config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.half().contiguous()
        for name, value in detector.net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(state, folder / "model.safetensors")
    config = {**own.model_dump(include={"width", "deep", "refine"}), "recipe": own.model_dump()}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def measure(detector: Detector, folder: Path, count: int = 2000) -> dict[str, object]:
    """All scores that ship with the weights; on reconstructions if there is an autoencoder."""
    held_out = UniformSet(max_elements=4)
    scores: dict[str, object] = {
        "renders": evaluate(detector, held_out, HELD_OUT_SEED, count).summary(),
        "malformed, share detected at 0.9": abstention(detector, HELD_OUT_SEED),
    }
    if (folder / "autoencoder.pt").exists():
        rebuild = reconstructor(folder)
        scores["reconstructions"] = evaluate(
            detector, held_out, HELD_OUT_SEED, count // 2, change=rebuild
        ).summary()
        scores["malformed, reconstructed"] = abstention(detector, HELD_OUT_SEED, 40, change=rebuild)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=default_folder(), help="checkpoints")
    parser.add_argument("--out", type=Path, default=MODEL_FOLDER, help="weights and scores")
    parser.add_argument("--measure", action="store_true", help="only score what --out holds")
    arguments = parser.parse_args()
    if not arguments.measure:
        own = DetectorRecipe()
        save(train(ShapesRecipe(), arguments.folder, own), own, arguments.out)
    scores = measure(Detector.load(arguments.out), arguments.folder)
    text = json.dumps(scores, indent=1)
    (arguments.out / "scores.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
