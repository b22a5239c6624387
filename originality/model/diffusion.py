"""One loaded latent diffusion model: encode an image, predict the noise, redraw (paper Section 3)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from originality.contract.config import SettingsError
from originality.model.attention import install
from originality.model.device import torch_device
from originality.model.device_transfers import to_device
from originality.model.library_errors import library_errors
from originality.model.loading import load_part, load_text_encoders, precisions
from originality.model.model_folder import ModelFolder, open_model
from originality.model.out_of_memory import Passes, padded_indices
from originality.model.prompt_embeddings import PromptEmbeddings
from originality.settings.parts import ModelSettings, RedrawSettings

SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "pndm": (diffusers.PNDMScheduler, {"skip_prk_steps": True}),
    "ddim": (diffusers.DDIMScheduler, {}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    # without the noise of its "sde-" kinds, which a model's own schedule may name
    "dpm++": (diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
}


def sampler_of(schedule: dict[str, Any], settings: RedrawSettings) -> Any:
    """The settings' sampler on a model's noise schedule.

    Raises:
        SettingsError: it would pass over what the schedule says.
    """
    kind, extra = SCHEDULERS[settings.scheduler]
    ends_in_noise = "rescale_betas_zero_snr"
    if schedule.get(ends_in_noise) and ends_in_noise not in inspect.signature(kind.__init__).parameters:
        raise SettingsError(
            f"the model's noise schedule ends in pure noise ({ends_in_noise}), which the sampler "
            f"{settings.scheduler!r} cannot follow; use --set redraw.scheduler=ddim"
        )
    return kind.from_config(schedule, **extra)


def check_schedule(model: ModelSettings, schedule: dict[str, Any], settings: RedrawSettings) -> None:
    """Build the settings' sampler on a model's noise schedule, and check the amounts of noise.

    Raises:
        SettingsError: the schedule cannot be followed, or makes no sense.
    """
    file = "scheduler/scheduler_config.json"
    with library_errors(f"model folder {model.path!r}: its {file}"):
        if wrong := _nonsense(diffusers.DDPMScheduler.from_config(schedule), settings.steps):
            raise SettingsError(
                f"model folder {model.path!r}: its {file} {wrong}; fetch the model's published file"
            )
        sampler_of(schedule, settings).set_timesteps(settings.steps)


def _nonsense(schedule: Any, steps: int) -> str | None:
    """Why no model was trained on a noise schedule, as the end of "its scheduler_config.json ..."."""
    trained, kept = schedule.config.num_train_timesteps, schedule.alphas_cumprod
    if len(kept) != trained:
        return f"has {len(kept)} betas and num_train_timesteps {trained}"
    if trained < steps:
        return f"has num_train_timesteps {trained}, fewer than redraw.steps {steps}"
    least = 0 if schedule.config.rescale_betas_zero_snr else torch.finfo(kept.dtype).tiny
    # NaN is in no range
    if not ((kept >= least) & (kept <= 1)).all() or (kept.diff() > 0).any() or kept[0] == kept[-1]:
        return "has betas of which alphas_cumprod does not fall within (0, 1]"
    return None


@dataclass(frozen=True)
class Moments:
    """An encoded image: the posterior's mean and standard deviation, each float32 (channels, h, w), on the
    CPU, where chance is drawn."""

    mean: Tensor
    std: Tensor
    mirrored: Moments | None = None
    """Of the image mirrored left to right, where samples of it are flipped."""


class NotFinite(ArithmeticError):  # noqa: N818 - what the numbers are
    """Numbers that overflowed or are none; the message names the stage at which they first did."""


@dataclass(frozen=True)
class GeneratedImages:
    """Images, and which of them could not be drawn."""

    images: np.ndarray
    """uint8 (n, side, side, 3)."""
    failures: tuple[str | None, ...]
    """Of each image: the stage at which its numbers first were none."""

    def checked(self) -> np.ndarray:
        """The images.

        Raises:
            NotFinite: one could not be drawn.
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
        about = folder.description
        self.device, self.side = torch_device(settings), about.side
        self.dtype, self.vae_dtype = precisions(settings, about)
        self.name, self.digest = folder.name, folder.digest
        self.text = load_text_encoders(folder, self.device)
        self.unet = load_part(folder, "unet", diffusers.UNet2DConditionModel, self.device, self.dtype)
        self.vae = load_part(folder, "vae", diffusers.AutoencoderKL, self.device, self.vae_dtype)
        self.attention = install(settings.attention, self.unet, self.vae, self.device, self.dtype)
        self._about = about
        schedule = diffusers.DDPMScheduler.from_config(about.scheduler)
        self.alphas_cumprod = schedule.alphas_cumprod.to(self.device)
        self.fitting, self.checkpointing = settings.fit, settings.gradient_checkpointing
        self.encoding, self.denoising, self.decoding = Passes(), Passes(), Passes()
        self.progress: str | None = None
        """How far the images are that are being drawn, for people; None while none are."""
        self._graphs = settings.compile == "cuda-graphs"
        self._tune(settings)

    def _tune(self, settings: ModelSettings) -> None:
        """Settings of speed alone, up to the last bits."""
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings.tf32
        torch.backends.cudnn.deterministic = True  # convolutions repeat to the bit
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
        """Encode one fitted image; moments are in the UNet's scale (times the scaling factor).

        Raises:
            NotFinite: they are no numbers, in fp32 either.
        """
        x = torch.from_numpy(image).permute(2, 0, 1)[None].to(self.device).float() / 127.5 - 1

        def moments(_most: int) -> Moments:
            posterior = self.vae.encode(x.to(self.vae.dtype)).latent_dist
            scale = self.vae.config.scaling_factor
            return Moments(posterior.mean[0].float() * scale, posterior.std[0].float() * scale)

        found = self.encoding.run(1, moments)
        if not _finite(found):
            with self._vae_in_fp32():
                found = self.encoding.run(1, moments)
        if not _finite(found):
            raise NotFinite("the VAE's encoding of the image is not finite")
        return Moments(found.mean.cpu(), found.std.cpu())

    @contextmanager
    def _vae_in_fp32(self) -> Iterator[None]:
        """For what its own precision is too narrow for; nothing of the weights is lost on the way."""
        # The module's own way: diffusers' warns each time, of modules that there are none of.
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
        """What the UNet should say of latents (n, c, h, w) with this noise at timesteps t (n,)."""
        if self._about.prediction == "epsilon":
            return noise
        alpha = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * latents

    def predict(self, noisy: Tensor, t: Tensor, words: PromptEmbeddings) -> Tensor:
        """What the UNet says, float32 (n, c, h, w), for n words."""
        return self._unet(noisy.to(self.dtype), t, words.to(self.dtype)).float()

    def _unet(self, noisy: Tensor, t: Tensor, words: PromptEmbeddings) -> Tensor:
        """One pass, all in the UNet's precision."""
        added = None
        if self._about.wants_size:
            # SDXL is told the size of the image, where it was cut, and the size that is asked for.
            sizes = words.states.new_full((len(noisy), 6), self.side)  # made there: the host need not wait
            sizes[:, 2:4] = 0
            added = {"text_embeds": words.pooled, "time_ids": sizes}
        said: Tensor = self.unet(noisy, t, words.states, added_cond_kwargs=added).sample
        return said.clone() if self._graphs else said  # the next pass writes its own in the same place

    @torch.no_grad()
    def redraw(self, prompt: str, vectors: Tensor, noise: Tensor, settings: RedrawSettings) -> np.ndarray:
        """Redraw ``prompt`` with a pseudo-word (m, width), once for each initial noise."""
        words = self.encode_prompts([prompt], vectors[None])
        return self.generate(words.repeat_prompt(len(noise)), noise, settings).checked()

    def encode_prompts(self, prompts: Sequence[str], vectors: Tensor | None = None) -> PromptEmbeddings:
        """What n prompts tell the UNet, in fp32.

        Args:
            vectors: (n, m, width), each prompt's pseudo-word; None where no prompt holds one.
        """
        told = self.text.tokenise(prompts, 0 if vectors is None else vectors.shape[1])
        return self.text.encode(
            told.to_device(self.device), None if vectors is None else vectors.to(self.device)
        )

    @cached_property
    @torch.no_grad()
    def _unconditional(self) -> PromptEmbeddings:
        """What guidance leads away from: the empty prompt."""
        empty = self.encode_prompts([""])
        return empty.zeros() if self._about.empty_is_zero else empty

    @torch.no_grad()
    def generate(self, words: PromptEmbeddings, noise: Tensor, settings: RedrawSettings) -> GeneratedImages:
        """Denoise with classifier-free guidance, as diffusers' pipeline does.

        Args:
            words: what each of n images is told.
            noise: float32 (n, c, h, w), standard normal.
        """
        try:
            latents, finite = self._denoised(words, noise, settings)
            sound = finite.tolist()
            self.progress = f"decoding {len(latents)}"
            images, decoded = self._decoded(latents)
        finally:
            self.progress = None
        return GeneratedImages(images, tuple(_failure(*each) for each in zip(sound, decoded, strict=True)))

    def _denoised(
        self, words: PromptEmbeddings, noise: Tensor, settings: RedrawSettings
    ) -> tuple[Tensor, Tensor]:
        """Latents (n, c, h, w), and whether they were finite after each step, bool (n, steps); for neither of
        which the host waits."""
        guided = settings.guided
        if guided:
            words = PromptEmbeddings.concatenate([self._unconditional.repeat_prompt(len(words)), words])
        words = words.to(self.dtype)
        sampler = self._sampler(settings)
        latents = to_device(noise, self.device).to(self.dtype) * sampler.init_noise_sigma
        finite: list[Tensor] = []
        for t, told in zip(sampler.timesteps, to_device(sampler.timesteps, self.device), strict=True):
            self.progress = f"denoising {len(latents)}, step {len(finite) + 1}/{len(sampler.timesteps)}"
            inputs = sampler.scale_model_input(torch.cat([latents] * 2) if guided else latents, t)
            predicted = self._predicted(inputs, told, words)
            if guided:
                empty, asked = predicted.chunk(2)
                predicted = empty + settings.guidance_scale * (asked - empty)
            latents = sampler.step(predicted, t, latents).prev_sample
            finite.append(latents.isfinite().flatten(1).all(1))
        return latents, torch.stack(finite, 1)

    def _sampler(self, settings: RedrawSettings) -> diffusers.SchedulerMixin:
        """Its tables stay on the CPU: samplers look in them by a timestep, and the host would wait for it."""
        sampler = sampler_of(self._about.scheduler, settings)
        sampler.set_timesteps(settings.steps)
        if hasattr(sampler, "set_begin_index"):
            sampler.set_begin_index(0)  # else it is looked up
        return sampler

    def _predicted(self, noisy: Tensor, t: Tensor, words: PromptEmbeddings) -> Tensor:
        """The UNet's prediction for any number of samples, in as few passes as memory has room for."""

        def predict(most: int) -> Tensor:
            if most == len(noisy):
                return self._unet(noisy, t, words)
            of = padded_indices(len(noisy), most, noisy.device)
            parts = zip(noisy[of].split(most), words.select(of).split(most), strict=True)
            return torch.cat([self._unet(x, t, told) for x, told in parts])[: len(noisy)]

        return self.denoising.run(len(noisy), predict)

    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents (n, c, h, w) to uint8 images (n, side, side, 3).

        Raises:
            NotFinite: an image's numbers are none, in fp32 either.
        """
        images, sound = self._decoded(latents)
        return GeneratedImages(images, tuple(_failure([], each) for each in sound)).checked()

    def _decoded(self, latents: Tensor) -> tuple[np.ndarray, list[bool]]:
        """Images, and whether each one's numbers are some."""

        def decode(most: int) -> tuple[np.ndarray, list[bool]]:
            of = padded_indices(len(latents), most, latents.device)
            parts = [self._decode(part) for part in latents[of].split(most)]
            images = np.concatenate([images for images, _ in parts])
            return images[: len(latents)], [s for _, sound in parts for s in sound][: len(latents)]

        return self.decoding.run(len(latents), decode)

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> tuple[np.ndarray, list[bool]]:
        def drawn(of: Tensor) -> Tensor:
            return self.vae.decode(of.to(self.vae.dtype) / self.vae.config.scaling_factor).sample.float()

        images = drawn(latents)
        lost = ~images.isfinite().flatten(1).all(1)
        if lost.any():
            with self._vae_in_fp32():
                # All of them: how many neighbours were lost must not shape the pass.
                images = torch.where(lost.view(-1, 1, 1, 1), drawn(latents), images)
        sound: list[bool] = images.isfinite().flatten(1).all(1).tolist()
        levels = (images.nan_to_num() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        return (levels * 255).round().astype(np.uint8), sound

    def unet_samples_per_redraw(self, settings: RedrawSettings) -> int:
        """Samples through the UNet that one redraw costs."""
        return len(self._sampler(settings).timesteps) * settings.unet_samples


def _failure(steps: list[bool], decoded: bool) -> str | None:
    """Why an image could not be drawn, if its numbers were sound after these denoising steps and decoded."""
    if not all(steps):
        return f"latents are not finite after denoising step {steps.index(False) + 1} of {len(steps)}"
    return None if decoded else "the VAE's decoding is not finite"


def _finite(moments: Moments) -> bool:
    return bool(moments.mean.isfinite().all() and moments.std.isfinite().all())
