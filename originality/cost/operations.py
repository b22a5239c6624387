"""Counts of the work that an audit does for an image, and the floating point operations of it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pydantic import Field

from originality.contract.config import Frozen
from originality.cost.flops import Flops, format_flops
from originality.model.noise_schedule import SCHEDULERS
from originality.settings.audit import AuditSettings
from originality.settings.redraw import RedrawSettings


class Counts(Frozen):
    """Mean work for an image, summed over its numbers of tokens. Padding of passes is not counted, whether
    repeats or numbers of tokens trained ahead of need."""

    tokens_tried: float = Field(ge=1)
    """Numbers of tokens tried: an image that stops at 3 tokens tried 3."""
    tokens_checked: float = Field(ge=0)
    """Numbers of tokens that the in-distribution check examined, or would have if there were one."""
    step_samples: float = Field(gt=0)
    """UNet samples in forward and backward pass: steps x batch size."""
    drawing_samples: float = Field(ge=0)
    """UNet samples in forward pass only, to denoise redraws and edit images. Guidance needs two for each."""
    decoded: float = Field(ge=0)
    """Images decoded by the VAE."""
    encoded: float = Field(ge=0)
    """Images encoded by the VAE."""
    step_prompts: float = Field(ge=0)
    """Prompts in forward and backward pass of the text encoders."""
    prompts: float = Field(ge=0)
    """Prompts in forward pass only."""
    judged: float = Field(ge=0)
    """Images embedded by the metric, including the query."""


class BatchSlots(Frozen):
    """Batch slots spent per slot that a verdict needed. The rest were padding, or numbers of tokens trained
    ahead that turned out not to be needed."""

    training: float = Field(1.0, ge=1)
    drawing: float = Field(1.0, ge=1)


def denoising_steps(redraw: RedrawSettings) -> int:
    """UNet passes for one image without guidance. PNDM makes one more than its number of steps."""
    kind, extra = SCHEDULERS[redraw.scheduler]
    sampler = kind(**extra)
    sampler.set_timesteps(redraw.steps)
    return len(sampler.timesteps)


def protocol_counts(
    settings: AuditSettings, tokens_tried: float, tokens_checked: float | None = None
) -> Counts:
    """Work that the settings ask for if nothing stops early: all steps and all redraws for each number of
    tokens tried, and all edit images for each number checked.

    Args:
        tokens_tried: may be a fraction, as the mean of several images.
        tokens_checked: None: as many as tried.
    """
    inversion, redraw = settings.inversion, settings.redraw
    checked = tokens_tried if tokens_checked is None else tokens_checked
    sets = tokens_tried + (checked if settings.in_distribution.check == "editability" else 0)
    of_an_image = denoising_steps(redraw) * redraw.unet_samples
    prompts = inversion.batch_size
    if inversion.templates is not None:
        prompts = min(prompts, inversion.templates, len(settings.selected_domain.templates))
    return Counts(
        tokens_tried=tokens_tried,
        tokens_checked=checked,
        step_samples=tokens_tried * inversion.steps * inversion.batch_size,
        drawing_samples=sets * redraw.count * of_an_image,
        decoded=sets * redraw.count,
        encoded=2 if inversion.flips == "half" else 1,  # the image, and its mirror image
        step_prompts=tokens_tried * inversion.steps * prompts,
        prompts=sets,
        judged=tokens_tried * redraw.count + 1,  # the image itself
    )


@dataclass(frozen=True)
class Cost:
    """Floating point operations of an image, by part."""

    inversion: float
    """UNet, forward and backward pass."""
    drawing: float
    """UNet, forward pass, for redraws and edit images."""
    decoding: float
    """VAE decoder."""
    encoding: float
    """VAE encoder."""
    text: float
    """Text encoders."""
    judging: float
    """Networks of the metric."""

    @property
    def unet(self) -> float:
        """Operations of the UNet: of inversion and drawing."""
        return self.inversion + self.drawing

    @property
    def total(self) -> float:
        """Operations of all parts."""
        return float(sum(getattr(self, part.name) for part in fields(self)))

    def __str__(self) -> str:
        """The total, and the parts that are not zero with their shares, largest first."""
        parts = {part.name: float(getattr(self, part.name)) for part in fields(self)}
        shares = (
            f"{name} {format_flops(of)} ({_share(of / self.total)})"
            for name, of in sorted(parts.items(), key=lambda part: -part[1])
            if of
        )
        return f"{format_flops(self.total)} an image: {', '.join(shares)}"


def _share(of: float) -> str:
    return f"{of:.0%}" if of >= 0.01 else "under 1%"


def cost(counts: Counts, flops: Flops, judging: int = 0, places: BatchSlots = BatchSlots()) -> Cost:
    """Floating point operations of counted work on a model.

    Args:
        judging: operations of the metric for one image (:func:`originality.cost.flops.judging`).
        places: batch slots spent per slot counted.
    """
    return Cost(
        inversion=counts.step_samples * places.training * flops.step,
        drawing=counts.drawing_samples * places.drawing * flops.forward,
        decoding=counts.decoded * places.drawing * flops.decoding,
        encoding=counts.encoded * flops.encoding,
        text=counts.step_prompts * places.training * flops.text_step + counts.prompts * flops.text,
        judging=counts.judged * places.drawing * judging,
    )
