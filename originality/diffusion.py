"""One loaded latent diffusion model: encode an image, predict the noise, redraw (paper Section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import diffusers
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from transformers import CLIPTextModel

from originality.checkpoint import describe, loading, model_digest, model_folder
from originality.conditioning import Prompts, encode, tokenise
from originality.passes import Passes
from originality.settings import ModelSettings, RedrawSettings, SettingsError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

SCHEDULERS = {
    "pndm": (diffusers.PNDMScheduler, {"skip_prk_steps": True}),
    "ddim": (diffusers.DDIMScheduler, {}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "dpm++": (diffusers.DPMSolverMultistepScheduler, {}),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
}


def torch_device(settings: ModelSettings) -> torch.device:
    """The device that the settings mean, here.

    Raises:
        SettingsError: a GPU is asked for and torch sees none.
    """
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device is cuda, but torch sees no GPU; use --device cpu")
    return torch.device(device)


@dataclass(frozen=True)
class Moments:
    """An encoded image: the posterior's mean and standard deviation, each float32 (channels, h, w)."""

    mean: Tensor
    std: Tensor


class LatentDiffusion:
    """A frozen Stable Diffusion: UNet and VAE in the settings' precision, text encoder in fp32."""

    def __init__(self, settings: ModelSettings, folder: Path | None = None) -> None:
        """``folder`` is the model's copy on this machine, where the settings name none."""
        folder, about = model_folder(settings, folder), describe(settings, folder)
        self.device, self.side = torch_device(settings), about.side
        self.dtype = DTYPES[settings.dtype]
        self.name = settings.path
        self.digest = model_digest(settings, folder)
        self.tokenizer = about.tokenizer
        with loading(settings):
            self.text_encoder = CLIPTextModel.from_pretrained(
                folder / "text_encoder", use_safetensors=True, dtype=torch.float32
            ).to(self.device)
            self.unet = diffusers.UNet2DConditionModel.from_pretrained(
                folder / "unet", use_safetensors=True, dtype=self.dtype
            ).to(self.device)
            self.vae = diffusers.AutoencoderKL.from_pretrained(
                folder / "vae", use_safetensors=True, dtype=self.dtype
            ).to(self.device)
        for part in (self.text_encoder, self.unet, self.vae):
            part.eval().requires_grad_(False)
        self._scheduler_config = about.scheduler
        self._prediction = about.prediction
        schedule = diffusers.DDPMScheduler.from_config(self._scheduler_config)
        self.alphas_cumprod = schedule.alphas_cumprod.to(self.device)
        self.fitting = settings.fit
        self.denoising, self.decoding = Passes(), Passes()

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, h, w) of one latent."""
        side = self.unet.config.sample_size
        return (self.unet.config.in_channels, side, side)

    def fit(self, image: Image.Image) -> np.ndarray:
        """An image as the model sees it, made square as the settings' ``fit`` says; uint8 (side, side, 3)."""
        image, square = image.convert("RGB"), (self.side, self.side)
        if image.size == square:
            return np.array(image)
        if self.fitting == "crop":
            return np.array(ImageOps.fit(image, square, Image.Resampling.BICUBIC))
        if self.fitting == "stretch":
            return np.array(image.resize(square, Image.Resampling.BICUBIC))
        scale = self.side / max(image.size)
        width, height = (max(1, round(length * scale)) for length in image.size)
        page = Image.new("RGB", square, "white")
        whole = image.resize((width, height), Image.Resampling.BICUBIC)
        page.paste(whole, ((self.side - width) // 2, (self.side - height) // 2))
        return np.array(page)

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> Moments:
        """Encode one fitted image; moments are in the UNet's scale (times the scaling factor)."""
        x = torch.from_numpy(image).permute(2, 0, 1)[None].to(self.device)
        posterior = self.vae.encode((x.float() / 127.5 - 1).to(self.dtype)).latent_dist
        scale = self.vae.config.scaling_factor
        return Moments(posterior.mean[0].float() * scale, posterior.std[0].float() * scale)

    def add_noise(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The forward process: (n, c, h, w) latents at timesteps t (n,)."""
        alpha = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the UNet should say of latents (n, c, h, w) with this noise at timesteps t (n,)."""
        if self._prediction == "epsilon":
            return noise
        alpha = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * latents

    def predict(self, noisy: Tensor, t: Tensor, words: Tensor) -> Tensor:
        """What the UNet says, float32 (n, c, h, w), for words (n, length, width)."""
        return self.unet(noisy.to(self.dtype), t, words.to(self.dtype)).sample.float()

    @torch.no_grad()
    def redraw(self, prompt: str, vectors: Tensor, noise: Tensor, settings: RedrawSettings) -> np.ndarray:
        """Draw ``prompt`` with a pseudo-word (m, width), once for each initial noise; see :meth:`sample`."""
        words = self.words([prompt], vectors[None])
        return self.sample(words.expand(len(noise), -1, -1), noise, settings)

    def words(self, prompts: Sequence[str], vectors: Tensor | None = None) -> Tensor:
        """Text states of prompts: float32 (n, length, width).

        Args:
            vectors: (n, m, width), each prompt's pseudo-word; None where no prompt holds one.
        """
        told = tokenise(self.tokenizer, prompts, 0 if vectors is None else vectors.shape[1])
        moved = Prompts(told.ids.to(self.device), told.slots.to(self.device))
        return encode(self.text_encoder, moved, None if vectors is None else vectors.to(self.device))

    @torch.no_grad()
    def sample(self, words: Tensor, noise: Tensor, settings: RedrawSettings) -> np.ndarray:
        """Denoise with classifier-free guidance, as diffusers' pipeline does.

        Args:
            words: (n, length, width), what each image is told.
            noise: float32 (n, c, h, w), standard normal.

        Returns:
            uint8 (n, side, side, 3).
        """
        guided = settings.guidance_scale > 1
        if guided:
            words = torch.cat([self.words([""]).expand_as(words), words])
        kind, extra = SCHEDULERS[settings.scheduler]
        sampler = kind.from_config(self._scheduler_config, **extra)
        sampler.set_timesteps(settings.steps, device=self.device)
        latents = noise.to(self.device, self.dtype) * sampler.init_noise_sigma
        for t in sampler.timesteps:
            inputs = sampler.scale_model_input(torch.cat([latents] * 2) if guided else latents, t)
            predicted = self._unet(inputs, t, words.to(self.dtype))
            if guided:
                empty, asked = predicted.chunk(2)
                predicted = empty + settings.guidance_scale * (asked - empty)
            latents = sampler.step(predicted, t, latents).prev_sample
        return self.decode(latents)

    def _unet(self, noisy: Tensor, t: Tensor, words: Tensor) -> Tensor:
        """The UNet's prediction for any number of samples, in as few passes as memory has room for."""

        def predict(most: int) -> Tensor:
            parts = zip(noisy.split(most), words.split(most), strict=True)
            return torch.cat([self.unet(x, t, told).sample for x, told in parts])

        return self.denoising.run(len(noisy), predict)

    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents (n, c, h, w) to uint8 images (n, side, side, 3)."""
        return self.decoding.run(
            len(latents), lambda most: np.concatenate([self._decode(part) for part in latents.split(most)])
        )

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> np.ndarray:
        images = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        levels = (images.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        return (levels * 255).round().astype(np.uint8)

    def samples_of_redraw(self, settings: RedrawSettings) -> int:
        """Samples through the UNet that one set of redraws costs."""
        kind, extra = SCHEDULERS[settings.scheduler]
        sampler = kind.from_config(self._scheduler_config, **extra)
        sampler.set_timesteps(settings.steps)
        passes = 2 if settings.guidance_scale > 1 else 1
        return len(sampler.timesteps) * passes * settings.count
