"""Measure the time of an inversion step in three implementations, as ratios within one run.

They are timed in turns, so that a busy machine slows all alike: a plain loop as the method is usually
implemented (the image opened, resized and encoded again for every sample of every step, the entire token
table differentiated and decayed), our loop for one image, and our loop for several images in one UNet pass;
with the paper's 20 samples of an image in a step, and with those of ``fast``.
``python -m originality.bench.timing.steps --out docs/bench/steps.json``
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel

from originality.inversion.inverter import Inverter
from originality.model.diffusion import LatentDiffusion
from originality.model.prompt_embeddings import PromptEmbeddings
from originality.model.randomness import keyed_generator
from originality.settings.domains import DOMAINS
from originality.settings.parts import ModelSettings
from originality.settings.presets import load_settings
from originality.shapes.image_sets import TaughtSet

SAMPLES = 20
"""Noise samples of an image in a step, as in the paper."""

MIN_ROUNDS = 5
"""Least number of rounds, without the first, which warms up."""

DOMAIN = DOMAINS["shapes"]


class PlainLoop:
    """Textual inversion of one image with one token, after the method's description (Gal et al. 2022)."""

    def __init__(self, model: LatentDiffusion, image: Path, samples: int = SAMPLES) -> None:
        """Args:
        image: a file, which is read again for each sample.
        """
        self.model, self.image, self.samples = model, image, samples
        self.tokenizer = copy.deepcopy(model.text.tokenizers[0])
        self.encoder = copy.deepcopy(model.text.encoders[0])
        assert isinstance(self.encoder, CLIPTextModel)
        self.tokenizer.add_tokens(["<s>"])
        own: int = self.tokenizer.convert_tokens_to_ids("<s>")
        self.encoder.resize_token_embeddings(own + 1, mean_resizing=False)
        self.table = self.encoder.get_input_embeddings().weight
        with torch.no_grad():
            self.table[own] = model.text.word_vector(DOMAIN.initial_word)
        self.others = self.table.detach()[:own].clone()
        self.encoder.requires_grad_(False)
        self.table.requires_grad_(True)
        self.optimiser = torch.optim.AdamW([self.table], lr=5e-4, weight_decay=1e-2)
        self.rng, self.chance = keyed_generator("plain loop"), random.Random(0)

    def step(self) -> None:
        """Do one training step on one batch."""
        model = self.model
        drawn = [self._sample() for _ in range(self.samples)]
        with torch.no_grad():
            posterior = model.vae.encode(torch.stack([pixels for pixels, _ in drawn])).latent_dist
            latents = posterior.sample(self.rng) * model.vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=self.rng)
        t = torch.randint(len(model.alphas_cumprod), (self.samples,), generator=self.rng)
        words = PromptEmbeddings(self.encoder(torch.cat([ids for _, ids in drawn]))[0])
        predicted = model.predict(model.add_noise(latents, noise, t), t, words)
        (predicted - model.target(latents, noise, t)).square().mean().backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        with torch.no_grad():
            self.table[: len(self.others)] = self.others

    def _sample(self) -> tuple[Tensor, Tensor]:
        """Pixels in -1..1, float32 (3, side, side), and the ids of a template, int64 (1, length)."""
        side = self.model.side
        with Image.open(self.image) as image:
            picture = np.array(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))
        pixels = torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1
        text = self.chance.choice(DOMAIN.templates).format("<s>")
        ids = self.tokenizer(
            text, padding="max_length", max_length=self.tokenizer.model_max_length, return_tensors="pt"
        ).input_ids
        return pixels, ids


def lanes_step(model: LatentDiffusion, lanes: int, samples: int = SAMPLES) -> Callable[[], None]:
    """An inversion step of ``fast`` on ``lanes`` images at once, each with one token."""
    fast = load_settings("fast-shapes").inversion
    endless = {"steps": 10**9, "stop": "never", "cooldown": 0}
    settings = fast.model_copy(update={"batch_size": samples, "lanes": lanes, **endless})
    inverter = Inverter(model, DOMAIN, settings, seed=0)
    pictures = [model.fit(TaughtSet().scene(2, k).image()) for k in range(lanes)]
    held = [inverter.open(str(k), inverter.encode(picture), 1) for k, picture in enumerate(pictures)]
    return lambda: inverter.advance(held)


def measure(
    model: LatentDiffusion,
    seconds: float,
    lanes: int = 8,
    samples: int = SAMPLES,
    min_rounds: int = MIN_ROUNDS,
) -> dict[str, Any]:
    """Time the three implementations in turns for so many seconds, ``min_rounds`` rounds at least.

    Returns:
        Medians over the rounds in milliseconds a sample, and their ratios, by the clock ("wall") and by this
        process's processor time ("cpu", which a busy machine affects less).
    """
    together = f"lanes{lanes}"
    images = {"plain": 1, "single": 1, together: lanes}
    wall: dict[str, list[float]] = {name: [] for name in images}
    cpu: dict[str, list[float]] = {name: [] for name in images}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.png"
        TaughtSet().scene(2, 0).image().save(file)
        implementations = {
            "plain": PlainLoop(model, file, samples).step,
            "single": lanes_step(model, 1, samples),
            together: lanes_step(model, lanes, samples),
        }
        for step in implementations.values():
            step()
        until = time.perf_counter() + seconds
        while len(wall["plain"]) < min_rounds or time.perf_counter() < until:
            for name, step in implementations.items():
                started = time.perf_counter(), time.process_time()
                step()
                each = 1e3 / images[name] / samples
                wall[name].append((time.perf_counter() - started[0]) * each)
                cpu[name].append((time.process_time() - started[1]) * each)
    return {
        "threads": torch.get_num_threads(),
        "samples": samples,
        "lanes": lanes,
        "rounds": len(wall["plain"]),
        "wall": _summary(wall, together),
        "cpu": _summary(cpu, together),
    }


def _summary(taken: dict[str, list[float]], together: str) -> dict[str, Any]:
    ms = {name: median(times) for name, times in taken.items()}
    return {
        "ms_a_sample": ms,
        "plain_over_single": ms["plain"] / ms["single"],
        f"{together}_over_single": ms[together] / ms["single"],
    }


def main() -> None:
    """Run ``python -m originality.bench.timing.steps``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    arguments = parser.parse_args()
    model = LatentDiffusion(ModelSettings(path=arguments.model, device="cpu"))
    fast = load_settings("fast-shapes").inversion.batch_size
    text = json.dumps([measure(model, arguments.seconds, samples=n) for n in (SAMPLES, fast)], indent=1)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
