"""What an audit spends on an image: counts of work, and the floating point operations that they come to."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pydantic import Field

from originality.contract.config import Frozen
from originality.cost.flops import Flops, format_flops
from originality.model.noise_schedule import SCHEDULERS
from originality.settings.audit import AuditSettings
from originality.settings.parts import RedrawSettings


class Counts(Frozen):
    """Work done for an image, in the mean of several; each of all its numbers of tokens together. What fills
    up a short pass is not counted, be it repeats or numbers of tokens ahead of the one in hand."""

    tokens_tried: float = Field(ge=1)
    """Numbers of tokens: an image that stops at 3 tokens tried 3."""
    tokens_checked: float = Field(ge=0)
    """Those of which the in-distribution check was asked, or would be if there were one."""
    step_samples: float = Field(gt=0)
    """Through the UNet forward and back: steps x batch size."""
    drawing_samples: float = Field(ge=0)
    """Through the UNet forward, to denoise redraws and edit images; guidance takes two each time."""
    decoded: float = Field(ge=0)
    """Images out of the VAE."""
    encoded: float = Field(ge=0)
    """Images into the VAE."""
    step_prompts: float = Field(ge=0)
    """Through the text encoders forward and back."""
    prompts: float = Field(ge=0)
    """Through the text encoders forward alone."""
    judged: float = Field(ge=0)
    """Images embedded by the metric, the query among them."""


class BatchSlots(Frozen):
    """Places in passes for each that a verdict came to need; the others held repeats, or numbers of tokens
    that were trained ahead in vain."""

    training: float = Field(1.0, ge=1)
    drawing: float = Field(1.0, ge=1)


def denoising_steps(redraw: RedrawSettings) -> int:
    """Passes that one image takes through the UNet without guidance; PNDM makes one more than it is set."""
    kind, extra = SCHEDULERS[redraw.scheduler]
    sampler = kind(**extra)
    sampler.set_timesteps(redraw.steps)
    return len(sampler.timesteps)


def protocol_counts(
    settings: AuditSettings, tokens_tried: float, tokens_checked: float | None = None
) -> Counts:
    """What the settings themselves spend where nothing stops early: all steps and all redraws for each number
    of tokens tried, all edit images for each that is checked.

    Args:
        tokens_tried: a mean need not be a whole number.
        tokens_checked: None: all that are tried.
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
        encoded=2 if inversion.flips == "half" else 1,  # as it is, and mirrored
        step_prompts=tokens_tried * inversion.steps * prompts,
        prompts=sets,
        judged=tokens_tried * redraw.count + 1,  # the image itself
    )


@dataclass(frozen=True)
class Cost:
    """Floating point operations of an image, by part."""

    inversion: float
    """UNet, forward and back."""
    drawing: float
    """UNet, forward, for redraws and edit images."""
    decoding: float
    encoding: float
    text: float
    judging: float
    """By the metric."""

    @property
    def unet(self) -> float:
        return self.inversion + self.drawing

    @property
    def total(self) -> float:
        return float(sum(getattr(self, part.name) for part in fields(self)))

    def __str__(self) -> str:
        """The total, and its parts, largest first, with their shares; none that are nothing."""
        parts = {part.name: float(getattr(self, part.name)) for part in fields(self)}
        told = (
            f"{name} {format_flops(of)} ({_share(of / self.total)})"
            for name, of in sorted(parts.items(), key=lambda part: -part[1])
            if of
        )
        return f"{format_flops(self.total)} an image: {', '.join(told)}"


def _share(of: float) -> str:
    return f"{of:.0%}" if of >= 0.01 else "under 1%"


def cost(counts: Counts, flops: Flops, judging: int = 0, places: BatchSlots = BatchSlots()) -> Cost:
    """What counts come to on a model.

    Args:
        judging: operations of the metric for one image (originality.cost.flops.judging).
        places: what passes hold beside what is counted.
    """
    return Cost(
        inversion=counts.step_samples * places.training * flops.step,
        drawing=counts.drawing_samples * places.drawing * flops.forward,
        decoding=counts.decoded * places.drawing * flops.decoding,
        encoding=counts.encoded * flops.encoding,
        text=counts.step_prompts * places.training * flops.text_step + counts.prompts * flops.text,
        judging=counts.judged * places.drawing * judging,
    )
