"""Train and measure the detector: ``python -m originality.training.element_detector.train``.

It learns from renders, half of them crowded, the others with worn elements (still what they are) and
malformed ones (to be passed over); a quarter of what it sees went through the shipped model's autoencoder.
What ships is the weights' average, with its measured scores. Under ``torchrun`` processes share the work.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor, nn

from originality.model.diffusers_folder import MODELS
from originality.shapes.detector import MODEL_FOLDER, Detector, DetectorNet, to_ink
from originality.shapes.image_sets import UniformSet, generator
from originality.training.element_detector.images import TrainingImages, distort
from originality.training.element_detector.scores import abstention, evaluate
from originality.training.element_detector.targets import Targets, loss_of, targets
from originality.training.shapes_model.autoencoder import reconstruct
from originality.training.shapes_model.recipe import Frozen
from originality.training.stage import Crew, Stage, default_folder, join_crew, run_stage

HELD_OUT_SEED = 90_004
"""Seed of the renders that measure: no training and no choice of design saw it."""

Rebuild = Callable[[np.ndarray], np.ndarray]


class DetectorRecipe(Frozen):
    """Every number of the detector's training."""

    seed: int = 7
    fine: int = 32
    """Channels at stride 2; ``width`` and ``deep`` are those at strides 4 and 8."""
    width: int = 64
    deep: int = 96
    blocks: int = 2
    batch_size: int = 64
    images: int = 64_000
    """Distinct images a round; each is drawn once and kept in memory (12 kB)."""
    steps: tuple[int, ...] = (5000, 3000)
    """Steps of each round. A round goes on from the averaged weights of the one before, on other images, with
    a new optimiser and the whole course of the learning rate again."""
    learning_rate: float = 4e-3
    weight_decay: float = 1e-3
    ema_decay: float = 0.998
    bf16: bool = True
    reconstructed: int = 16_000
    """Images of which the well-formed ones are sent through the autoencoder."""
    reconstructed_share: float = 0.25
    """How often one of them is shown."""


def train(own: DetectorRecipe, folder: Path, model: Path) -> Detector:
    """Train (or finish, or load) the detector, checkpoints in the folder.

    Args:
        model: Stable Diffusion folder whose autoencoder reconstructs some of the images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(own.seed)
    net = DetectorNet(own.fine, own.width, own.deep, own.blocks).to(memory_format=torch.channels_last)
    images = [TrainingImages(own.seed + round_) for round_ in range(len(own.steps))]
    rebuilt = _reconstructions(folder, own.reconstructed, images[0], model)
    indices = list(rebuilt)

    def batch(round_: int, step: int) -> tuple[Tensor, Targets]:
        truths, pictures, flips = [], [], []
        for k in range(own.batch_size)[Crew.here().part(own.batch_size)]:
            rng = generator("detector sample", own.seed, round_, step, k)
            index = (step * own.batch_size + k) % own.images
            if indices and rng.random() < own.reconstructed_share:
                index = indices[rng.integers(len(indices))]
                picture, truth = rebuilt[index], images[0].item(index)[1]
            else:
                picture, truth = images[round_].item(index)
                picture = distort(picture, rng)
            flips.append(bool(rng.random() < 0.5))
            pictures.append(picture[:, ::-1] if flips[-1] else picture)
            truths.append(truth)
        ink = to_ink(np.stack(pictures)).to(memory_format=torch.channels_last)
        return ink, targets(truths, flips)

    def loss_at(round_: int, step: int) -> Tensor:
        ink, target = batch(round_, step)
        with torch.autocast("cpu", torch.bfloat16, enabled=own.bf16):
            outputs = net(ink)
        return loss_of(outputs.float(), target)

    for round_, steps in enumerate(own.steps):
        stage = Stage(
            f"detector-{round_ + 1}",
            nn.ModuleDict({"net": net}),
            partial(loss_at, round_),
            steps=steps,
            learning_rate=own.learning_rate,
            warmup=100,
            decay_share=1.0,
            weight_decay=own.weight_decay,
            ema_decay=own.ema_decay,
            recipe=own.model_dump_json(exclude={"steps"}),
        )
        run_stage(stage, folder)
        stage.finish()
    _settle(net, [batch(0, step)[0] for step in range(40)])
    return Detector(net.to(memory_format=torch.contiguous_format))


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


def _reconstructions(folder: Path, count: int, images: TrainingImages, model: Path) -> dict[int, np.ndarray]:
    """By index, those of the first images that hold nothing malformed, after the autoencoder.

    Malformed elements are left out: the autoencoder, which never saw a faded or a purple one, may draw it as
    a proper element, and that is then no example of a malformed one.
    """
    crew = Crew.here()
    rebuild = reconstructor(model)

    def kept(rank: int) -> Path:
        return folder / f"detector-reconstructions-{rank}-of-{crew.size}.npy"

    indices = [k for k in range(count) if not images.item(k)[1].malformed]
    if not kept(crew.rank).exists():
        print(f"{len(indices)} images go through the autoencoder: some minutes", flush=True)
        np.save(
            kept(crew.rank), rebuild(np.stack([images.item(k)[0] for k in indices[crew.rank :: crew.size]]))
        )
    crew.wait()
    rebuilt: dict[int, np.ndarray] = {}
    for rank in range(crew.size):
        rebuilt |= dict(zip(indices[rank :: crew.size], np.load(kept(rank)), strict=True))
    return rebuilt


def reconstructor(model: Path) -> Rebuild:
    """The autoencoder of a Stable Diffusion folder as a map of uint8 images (n, h, w, 3)."""
    vae = AutoencoderKL.from_pretrained(model, subfolder="vae", use_safetensors=True).eval()

    def rebuild(images: np.ndarray) -> np.ndarray:
        parts = [images[k : k + 32] for k in range(0, len(images), 32)]
        return np.concatenate([reconstruct(vae, part) for part in parts])

    return rebuild


def save(detector: Detector, own: DetectorRecipe, folder: Path) -> None:
    """Write weights (fp16) and config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.half().contiguous()
        for name, value in detector.net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(state, folder / "model.safetensors")
    config = {**own.model_dump(include={"fine", "width", "deep", "blocks"}), "recipe": own.model_dump()}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def measure(detector: Detector, model: Path, count: int = 2000) -> dict[str, object]:
    """All scores that ship with the weights: on held-out renders and on their reconstructions."""
    held_out = UniformSet(max_elements=4)
    rebuild = reconstructor(model)
    return {
        "renders": evaluate(detector, held_out, HELD_OUT_SEED, count).summary(),
        "malformed, share detected at 0.9": abstention(detector, HELD_OUT_SEED),
        "reconstructions": evaluate(detector, held_out, HELD_OUT_SEED, count // 2, change=rebuild).summary(),
        "malformed, reconstructed": abstention(detector, HELD_OUT_SEED, 40, change=rebuild),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=default_folder(), help="checkpoints")
    parser.add_argument("--model", type=Path, default=MODELS / "shapes", help="whose autoencoder is used")
    parser.add_argument("--out", type=Path, default=MODEL_FOLDER, help="weights and scores")
    parser.add_argument("--measure", action="store_true", help="only score what --out holds")
    arguments = parser.parse_args()
    if not arguments.measure:
        join_crew()
        own = DetectorRecipe()
        detector = train(own, arguments.folder, arguments.model)
        if Crew.here().rank:
            return
        save(detector, own, arguments.out)
    scores = measure(Detector.load(arguments.out), arguments.model)
    text = json.dumps(scores, indent=1)
    (arguments.out / "scores.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
