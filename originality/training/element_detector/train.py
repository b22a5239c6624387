"""Train and score the detector of elements: ``python -m originality.training.element_detector.train``.

It learns from renders, some of them crowded, others with slightly flawed elements (to be detected) and
malformed ones (to be ignored); a quarter of the images has passed through the shipped model's autoencoder.
The weights' average ships, with its measured scores. Under ``torchrun`` processes share the work.
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
from originality.training.stage import Processes, Stage, default_folder, join_processes, run_stage

HELD_OUT_SEED = 90_004
"""Seed of the renders for the scores, used by no training and for no design decision."""

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
    """Number of different images in a round; each is drawn once and kept in memory (12 kB)."""
    steps: tuple[int, ...] = (5000, 3000)
    """Steps of each round. A round starts from the averaged weights of the one before, with different images,
    a new optimiser and a new learning rate schedule."""
    learning_rate: float = 4e-3
    weight_decay: float = 1e-3
    ema_decay: float = 0.998
    bf16: bool = True
    reconstructed: int = 16_000
    """Number of images of which those without malformed elements are passed through the autoencoder."""
    reconstructed_share: float = 0.25
    """Share of the training samples that are one of these."""


def train(own: DetectorRecipe, folder: Path, model: Path) -> Detector:
    """Train the detector, resume its training, or load the finished one; checkpoints are in the folder.

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
        for k in range(own.batch_size)[Processes.current().share(own.batch_size)]:
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
    _recompute_batch_norms(net, [batch(0, step)[0] for step in range(40)])
    return Detector(net.to(memory_format=torch.contiguous_format))


@torch.no_grad()
def _recompute_batch_norms(net: DetectorNet, batches: Sequence[Tensor]) -> None:
    """Measure the batch norms' means and variances again, as they differ for the averaged weights."""
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
    """Reconstructions by the autoencoder of the first images without malformed elements, by index.

    Images with malformed elements are left out: the autoencoder, which never saw a faded or a purple element,
    may draw it as a well-formed one, which would make it a wrong example.
    """
    processes = Processes.current()
    rebuild = reconstructor(model)

    def kept(rank: int) -> Path:
        return folder / f"detector-reconstructions-{rank}-of-{processes.size}.npy"

    indices = [k for k in range(count) if not images.item(k)[1].malformed]
    if not kept(processes.rank).exists():
        print(f"passing {len(indices)} images through the autoencoder: some minutes", flush=True)
        np.save(
            kept(processes.rank),
            rebuild(np.stack([images.item(k)[0] for k in indices[processes.rank :: processes.size]])),
        )
    processes.wait()
    rebuilt: dict[int, np.ndarray] = {}
    for rank in range(processes.size):
        rebuilt |= dict(zip(indices[rank :: processes.size], np.load(kept(rank)), strict=True))
    return rebuilt


def reconstructor(model: Path) -> Rebuild:
    """The autoencoder of a Stable Diffusion folder as a function of uint8 images (n, h, w, 3)."""
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
    """The scores that ship with the weights: on held-out renders and on their reconstructions."""
    held_out = UniformSet(max_elements=4)
    rebuild = reconstructor(model)
    return {
        "renders": evaluate(detector, held_out, HELD_OUT_SEED, count).summary(),
        "malformed, share detected at 0.9": abstention(detector, HELD_OUT_SEED),
        "reconstructions": evaluate(detector, held_out, HELD_OUT_SEED, count // 2, change=rebuild).summary(),
        "malformed, reconstructed": abstention(detector, HELD_OUT_SEED, 40, change=rebuild),
    }


def main() -> None:
    """Run ``python -m originality.training.element_detector.train``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=default_folder(), help="checkpoints")
    parser.add_argument("--model", type=Path, default=MODELS / "shapes", help="whose autoencoder is used")
    parser.add_argument("--out", type=Path, default=MODEL_FOLDER, help="weights and scores")
    parser.add_argument("--measure", action="store_true", help="only score what --out holds")
    arguments = parser.parse_args()
    if not arguments.measure:
        join_processes()
        own = DetectorRecipe()
        detector = train(own, arguments.folder, arguments.model)
        if Processes.current().rank:
            return
        save(detector, own, arguments.out)
    scores = measure(Detector.load(arguments.out), arguments.model)
    text = json.dumps(scores, indent=1)
    (arguments.out / "scores.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
