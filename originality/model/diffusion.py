"""One loaded latent diffusion model: encode an image, predict the noise, redraw (paper Section 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import diffusers
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from originality.model.attention import install
from originality.model.device import torch_device
from originality.model.device_transfers import to_device
from originality.model.loading import load_part, load_text_encoders, precisions
from originality.model.model_folder import ModelFolder, open_model
from originality.model.noise_schedule import sampler_of
from originality.model.out_of_memory import Passes, padded_indices
from originality.model.prompt_embeddings import PromptEmbeddings
from originality.settings.parts import ModelSettings
from originality.settings.redraw import RedrawSettings


@dataclass(frozen=True)
class Moments:
    """An encoded image: mean and standard deviation of the posterior, each float32 (channels, h, w).

    They are on the CPU, because samples are drawn there: generators of a GPU give other numbers.
    """

    mean: Tensor
    std: Tensor
    mirrored: Moments | None = None
    """Moments of the image mirrored left to right; None where no samples of it are flipped."""


class NotFinite(ArithmeticError):  # noqa: N818 - recorded as error_class
    """A result is infinite or NaN; the message names the first stage where it was."""


@dataclass(frozen=True)
class GeneratedImages:
    """Generated images, and which of them failed."""

    images: np.ndarray
    """uint8 (n, side, side, 3)."""
    failures: tuple[str | None, ...]
    """For each image, the stage whose result was the first that is not finite; None where all are finite."""

    def checked(self) -> np.ndarray:
        """The images, uint8 (n, side, side, 3).

        Raises:
            NotFinite: one of them failed.
        """
        for failure in self.failures:
            if failure is not None:
                raise NotFinite(failure)
        return self.images


class LatentDiffusion:
    """A frozen Stable Diffusion: UNet and VAE in the settings' precision, text encoders in fp32."""

    def __init__(self, settings: ModelSettings, folder: ModelFolder | None = None) -> None:
        """Load the model's networks.

        Args:
            settings: how the model is run: device, precisions, attention.
            folder: the opened model; None opens the one that the settings name.

        Raises:
            SettingsError: the model cannot be loaded, or not with the settings' attention.
        """
        folder = folder or open_model(settings)
        self._description = folder.description
        self.device, self.side = torch_device(settings), self._description.side
        self.dtype, self.vae_dtype = precisions(settings, self._description)
        self.name, self.digest = folder.name, folder.digest
        self.text = load_text_encoders(folder, self.device)
        self.unet = load_part(folder, "unet", diffusers.UNet2DConditionModel, self.device, self.dtype)
        self.vae = load_part(folder, "vae", diffusers.AutoencoderKL, self.device, self.vae_dtype)
        self.attention = install(settings.attention, self.unet, self.vae, self.device, self.dtype)
        schedule = diffusers.DDPMScheduler.from_config(self._description.scheduler)
        self.alphas_cumprod = schedule.alphas_cumprod.to(self.device)
        self.fitting, self.checkpointing = settings.fit, settings.gradient_checkpointing
        self.encoding, self.denoising, self.decoding = Passes(), Passes(), Passes()
        self.progress: str | None = None
        """How far the images are that are being generated, for people; None while none are."""
        self._uses_cuda_graphs = settings.compile == "cuda-graphs"
        self._set_speed_options(settings)

    def _set_speed_options(self, settings: ModelSettings) -> None:
        """Apply the settings that change speed, and results in the last bits alone."""
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings.tf32
        # Otherwise cuDNN may add in any order, and two runs would differ in the last bits.
        torch.backends.cudnn.deterministic = True
        if settings.channels_last:
            self.unet.to(memory_format=torch.channels_last)
            self.vae.to(memory_format=torch.channels_last)
        if settings.compile != "off":
            mode = "reduce-overhead" if settings.compile == "cuda-graphs" else None
            self.unet = torch.compile(self.unet, mode=mode)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, h, w) of one latent."""
        side = self.unet.config.sample_size
        return (self.unet.config.in_channels, side, side)

    def fit(self, image: Image.Image) -> np.ndarray:
        """Make an image square as the setting model.fit says, at the model's size: uint8 (side, side, 3)."""
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
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        page.paste(resized, ((self.side - width) // 2, (self.side - height) // 2))
        return np.array(page)

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> Moments:
        """Encode one fitted image; the moments are multiplied by the VAE's scaling factor, as the UNet reads
        them.

        Raises:
            NotFinite: the encoding is not finite, in fp32 either.
        """
        x = torch.from_numpy(image).permute(2, 0, 1)[None].to(self.device).float() / 127.5 - 1

        def moments(_max_samples: int) -> Moments:
            posterior = self.vae.encode(x.to(self.vae.dtype)).latent_dist
            scale = self.vae.config.scaling_factor
            return Moments(posterior.mean[0].float() * scale, posterior.std[0].float() * scale)

        encoded = self.encoding.run(1, moments)
        if not _is_finite(encoded):
            with self._vae_in_fp32():
                encoded = self.encoding.run(1, moments)
        if not _is_finite(encoded):
            raise NotFinite("the VAE's encoding of the image is not finite")
        return Moments(encoded.mean.cpu(), encoded.std.cpu())

    @contextmanager
    def _vae_in_fp32(self) -> Iterator[None]:
        """Run the VAE in fp32 meanwhile, for an image at which its own precision overflows.

        fp32 holds every fp16 and bf16 number, so the weights are afterwards the same bits as before.
        """
        # torch's own method: diffusers' warns at each call about fp32 modules, of which a VAE has none.
        torch.nn.Module.to(self.vae, torch.float32)
        try:
            yield
        finally:
            torch.nn.Module.to(self.vae, self.vae_dtype)

    def add_noise(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The forward process: (n, c, h, w) latents at timesteps t (n,)."""
        alpha = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the UNet should predict for latents (n, c, h, w) with this noise at timesteps t (n,): the
        noise, or the velocity (Salimans and Ho, arXiv 2202.00512)."""
        if self._description.prediction == "epsilon":
            return noise
        alpha = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * latents

    def predict(self, noisy: Tensor, t: Tensor, prompts: PromptEmbeddings) -> Tensor:
        """The UNet's prediction, float32 (n, c, h, w), for n noisy latents with a prompt each."""
        return self.unet_pass(noisy.to(self.dtype), t, prompts.to(self.dtype)).float()

    def unet_pass(self, noisy: Tensor, t: Tensor, prompts: PromptEmbeddings) -> Tensor:
        """One pass through the UNet, (n, c, h, w); inputs and prediction are in the UNet's precision."""
        added = None
        if self._description.wants_size:
            # SDXL's conditioning on size: original size, corner of the crop, target size. The tensor is made
            # on the device, so that the host does not wait for a copy.
            sizes = prompts.states.new_full((len(noisy), 6), self.side)
            sizes[:, 2:4] = 0
            added = {"text_embeds": prompts.pooled, "time_ids": sizes}
        prediction: Tensor = self.unet(noisy, t, prompts.states, added_cond_kwargs=added).sample
        # With CUDA graphs the next pass writes its prediction into the same memory.
        return prediction.clone() if self._uses_cuda_graphs else prediction

    @torch.no_grad()
    def redraw(self, prompt: str, vectors: Tensor, noise: Tensor, settings: RedrawSettings) -> np.ndarray:
        """Redraw ``prompt`` with a pseudo-word (m, width), once for each initial noise.

        Raises:
            NotFinite: an image failed.
        """
        prompts = self.encode_prompts([prompt], vectors[None])
        return self.generate(prompts.repeat_prompt(len(noise)), noise, settings).checked()

    def encode_prompts(self, prompts: Sequence[str], vectors: Tensor | None = None) -> PromptEmbeddings:
        """Embeddings of n prompts, in fp32.

        Args:
            vectors: (n, m, width), the pseudo-word of each prompt; None where no prompt holds one.
        """
        tokenised = self.text.tokenise(prompts, 0 if vectors is None else vectors.shape[1])
        on_device = None if vectors is None else vectors.to(self.device)
        return self.text.encode(tokenised.to_device(self.device), on_device)

    @cached_property
    @torch.no_grad()
    def unconditional(self) -> PromptEmbeddings:
        """Embeddings of the empty prompt, for classifier-free guidance."""
        empty = self.encode_prompts([""])
        return empty.zeros() if self._description.empty_is_zero else empty

    @torch.no_grad()
    def generate(self, prompts: PromptEmbeddings, noise: Tensor, settings: RedrawSettings) -> GeneratedImages:
        """Generate n images with classifier-free guidance, as diffusers' pipeline does.

        Args:
            prompts: of n images.
            noise: initial latents, float32 (n, c, h, w), standard normal.
        """
        try:
            latents, finite = self.denoise(prompts, noise, settings)
            finite_steps = finite.tolist()
            self.progress = f"decoding {len(latents)}"
            images, decoded = self._decode(latents)
        finally:
            self.progress = None
        failures = (_failure(*each) for each in zip(finite_steps, decoded, strict=True))
        return GeneratedImages(images, tuple(failures))

    def denoise(
        self, prompts: PromptEmbeddings, noise: Tensor, settings: RedrawSettings
    ) -> tuple[Tensor, Tensor]:
        """Latents (n, c, h, w), and whether they were finite after each step, bool (n, steps).

        Nothing here waits for the device, so that the host queues all steps ahead of it.
        """
        if settings.guided:
            # Both halves in one batch. The unconditional half comes first, as in diffusers' pipeline.
            unconditional = self.unconditional.repeat_prompt(len(prompts))
            prompts = PromptEmbeddings.concatenate([unconditional, prompts])
        prompts = prompts.to(self.dtype)
        sampler = self.sampler(settings)
        latents = to_device(noise, self.device).to(self.dtype) * sampler.init_noise_sigma
        finite: list[Tensor] = []
        # The sampler looks up timesteps on the CPU, the UNet reads them on the device.
        for t, t_device in zip(sampler.timesteps, to_device(sampler.timesteps, self.device), strict=True):
            self.progress = f"denoising {len(latents)}, step {len(finite) + 1}/{len(sampler.timesteps)}"
            inputs = sampler.scale_model_input(torch.cat([latents] * 2) if settings.guided else latents, t)
            prediction = self._predict_in_passes(inputs, t_device, prompts)
            if settings.guided:
                without_prompt, with_prompt = prediction.chunk(2)
                prediction = without_prompt + settings.guidance_scale * (with_prompt - without_prompt)
            latents = sampler.step(prediction, t, latents).prev_sample
            finite.append(latents.isfinite().flatten(1).all(1))
        return latents, torch.stack(finite, 1)

    def sampler(self, settings: RedrawSettings) -> diffusers.SchedulerMixin:
        """A sampler for one call. Its tables stay on the CPU: samplers index them by timestep, and the host
        would wait for the device at each step."""
        sampler = sampler_of(self._description.scheduler, settings)
        sampler.set_timesteps(settings.steps)
        if hasattr(sampler, "set_begin_index"):
            sampler.set_begin_index(0)  # otherwise the sampler searches its tables for the first timestep
        return sampler

    def _predict_in_passes(self, noisy: Tensor, t: Tensor, prompts: PromptEmbeddings) -> Tensor:
        """The UNet's prediction for any number of samples, in as few passes as memory has room for.

        All passes have the same shape: the last bits of a product depend on it, and with a shorter last pass
        an image's redraws would depend on how many others are denoised beside it.
        """

        def predict(max_samples: int) -> Tensor:
            if max_samples == len(noisy):
                return self.unet_pass(noisy, t, prompts)
            rows = padded_indices(len(noisy), max_samples, noisy.device)
            passes = zip(noisy[rows].split(max_samples), prompts.select(rows).split(max_samples), strict=True)
            return torch.cat([self.unet_pass(x, t, own) for x, own in passes])[: len(noisy)]

        return self.denoising.run(len(noisy), predict)

    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents (n, c, h, w) to uint8 images (n, side, side, 3).

        Raises:
            NotFinite: an image is not finite, in fp32 either.
        """
        images, finite = self._decode(latents)
        return GeneratedImages(images, tuple(_failure([], each) for each in finite)).checked()

    def _decode(self, latents: Tensor) -> tuple[np.ndarray, list[bool]]:
        """Decoded images and, for each, whether all values are finite; in passes of the same shape."""

        def decode(max_samples: int) -> tuple[np.ndarray, list[bool]]:
            rows = padded_indices(len(latents), max_samples, latents.device)
            passes = [self._decode_pass(part) for part in latents[rows].split(max_samples)]
            images = np.concatenate([images for images, _ in passes])
            finite = [each for _, of_pass in passes for each in of_pass]
            return images[: len(latents)], finite[: len(latents)]

        return self.decoding.run(len(latents), decode)

    @torch.no_grad()
    def _decode_pass(self, latents: Tensor) -> tuple[np.ndarray, list[bool]]:
        def decoded() -> Tensor:
            scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
            return self.vae.decode(scaled).sample.float()

        images = decoded()
        lost = ~images.isfinite().flatten(1).all(1)
        if lost.any():
            with self._vae_in_fp32():
                # All latents again, not the lost ones alone: the pass's shape moves the last bits, and must
                # not depend on how many neighbours were lost. The others keep their first result.
                images = torch.where(lost.view(-1, 1, 1, 1), decoded(), images)
        finite: list[bool] = images.isfinite().flatten(1).all(1).tolist()
        levels = (images.nan_to_num() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        return (levels * 255).round().astype(np.uint8), finite

    def unet_samples_per_redraw(self, settings: RedrawSettings) -> int:
        """Samples through the UNet that one redraw costs."""
        return len(self.sampler(settings).timesteps) * settings.unet_samples


def _failure(finite_steps: list[bool], decoded: bool) -> str | None:
    """Why an image failed, by whether it was finite after each denoising step and once decoded; else None."""
    if not all(finite_steps):
        step = finite_steps.index(False) + 1
        return f"latents are not finite after denoising step {step} of {len(finite_steps)}"
    return None if decoded else "the VAE's decoding is not finite"


def _is_finite(moments: Moments) -> bool:
    return bool(moments.mean.isfinite().all() and moments.std.isfinite().all())
