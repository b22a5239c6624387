"""Model, metric and detector: are they there, do they compute, and how fast?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from originality.attention import PROCESSORS, installed
from originality.checkpoint import Copies, Description, describe, weights_bytes
from originality.checkup import Check, Finding, failed, machine, ok, skipped, warning
from originality.checkup.precision import BOUNDS, errors
from originality.checkup.speed import Speed, inversion, measure, pace
from originality.diffusion import LatentDiffusion, torch_device
from originality.editability import load_check
from originality.inversion import Inverter
from originality.memory import MemoryPlan, plan
from originality.settings import AuditSettings
from originality.similarity import load_distance

FEW = 2
"""Samples of the trial step on a CPU."""

SLACK = 1.1
"""By how much a trial may exceed what was planned before it is told: a plan leaves a tenth of a GPU free."""

_MEMORY = "free the device of other programs, or use --set model.dtype=fp16 or a larger one"
_REINSTALL = "give whole weights; if they are, report this with what --json says"


@dataclass
class Checkup:
    """The checks of one audit's settings; each leaves behind what later ones look at."""

    settings: AuditSettings
    copies: Callable[[str], Copies]
    """Brings to this machine the weights of "model", "distance" or "in_distribution"."""
    price: Callable[[str], tuple[str, float | None]]
    """Of a GPU by torch's name of it, or of "CPU": its name in the table of prices, and US dollars an hour
    of a worker there."""
    seconds: float = 10.0
    """For measuring speed."""
    brought: Copies = field(default=Copies())
    about: Description | None = None
    model: LatentDiffusion | None = None
    plan: MemoryPlan | None = None
    speed: Speed | None = None
    judging: dict[str, float] = field(default_factory=dict)
    """Seconds an image, by row."""

    def of_machine(self) -> list[Check]:
        return [
            Check("versions", machine.versions),
            Check("GPU", lambda: machine.gpu(self.settings.model)),
            Check("xformers", self._xformers, ("GPU",)),
        ]

    def of_weights(self) -> list[Check]:
        """After those of the machine."""
        on_device = ("GPU",)
        return [
            Check("model", self._model),
            Check("loading", self._loading, ("GPU", "model"), _MEMORY),
            Check("domain", self._domain, ("loading",)),
            Check("attention", self._attention, ("loading",)),
            Check("half precision", self._precision, ("loading",), _MEMORY),
            Check("memory", self._memory, ("domain",), _MEMORY),
            Check("speed", self._speed, ("memory",), _MEMORY),
            Check("metric", self._metric, on_device, _REINSTALL),
            Check("detector", self._detector, on_device, _REINSTALL),
            Check("pace", self._pace, ("speed",)),
        ]

    @property
    def device(self) -> torch.device:
        return torch_device(self.settings.model)

    @property
    def loaded(self) -> LatentDiffusion:
        assert self.model is not None, "checks that look at the model need its loading"
        return self.model

    def _xformers(self) -> Finding:
        return machine.xformers(self.settings.model, self.device)

    def _model(self) -> Finding:
        asked = self.settings.model
        self.brought = self.copies("model")
        self.about = about = describe(asked, self.brought.model)
        numbers = {
            "side": about.side,
            "prediction": about.prediction,
            "text_encoders": len(about.tokenizers),
            "bytes": weights_bytes(asked, self.brought.model),
        }
        encoders = (
            "one text encoder" if len(about.tokenizers) == 1 else f"{len(about.tokenizers)} text encoders"
        )
        return ok(
            f"{asked.path}: {about.side} px, predicts {about.prediction}, {encoders}, "
            f"{numbers['bytes'] / 1e9:.2g} GB of weights",
            **numbers,
        )

    def _loading(self) -> Finding:
        started = time.monotonic()
        self.model = model = LatentDiffusion(self.settings.model, self.brought.model)
        seconds = time.monotonic() - started
        parameters = sum(p.numel() for p in model.unet.parameters())
        kinds = f"{_named(model.dtype)}, VAE in {_named(model.vae_dtype)}"
        return ok(
            f"UNet of {parameters / 1e6:.3g} M parameters in {kinds}, on {model.device.type} in "
            f"{seconds:.1f} s; digest {model.digest}",
            **{"digest": model.digest, "unet_parameters": parameters, "seconds": seconds},
        )

    def _domain(self) -> Finding:
        """Whether the model can say the prompts; told apart from loading, as another domain may do."""
        settings, domain = self.settings, self.settings.spoken
        Inverter(self.loaded, domain, settings.inversion, settings.seed)
        said = [*domain.templates, settings.redraw.prompt, domain.edit_prompt]
        self.loaded.text.tokenise(said, settings.max_tokens)
        return ok(
            f"{domain.name}: starts at {domain.initial_word!r}; {len(domain.templates)} templates have room for "
            f"{settings.max_tokens} tokens",
            **{"initial_word": domain.initial_word, "templates": len(domain.templates)},
        )

    def _attention(self) -> Finding:
        choice, found = self.loaded.attention, sorted(installed(self.loaded.unet))
        numbers = {"chosen": choice.name, "why": choice.why, "processors": found}
        told = f"{choice}; the UNet's layers hold {', '.join(found)}"
        if found != [type(PROCESSORS[choice.name]()).__name__]:
            return failed(told, "use --set model.attention=sdpa", **numbers)
        return ok(told, **numbers)

    def _precision(self) -> Finding:
        kind = self.settings.model.dtype
        if kind == "fp32":
            return skipped("model.dtype is fp32: there is nothing to compare")
        prompt = self.settings.redraw.prompt.format(self.settings.spoken.initial_word)
        found = errors(self.loaded, self.settings.model, self.brought, prompt)
        finite = {t: error for t, error in found.items() if math.isfinite(error)}
        numbers = {"dtype": kind, "bound": BOUNDS[kind], "errors": {str(t): finite.get(t) for t in found}}
        other = "--set model.dtype=bf16 or fp32" if kind == "fp16" else "--set model.dtype=fp32"
        if lost := [str(t) for t in found if t not in finite]:
            told = f"the UNet's prediction in {kind} is not finite at timestep {', '.join(lost)}"
            return failed(told, f"use {other}", **numbers)
        worst = max(finite, key=lambda t: finite[t])
        told = (
            f"{kind} is off fp32 by {finite[worst]:.2g} at most, at timestep {worst} of {', '.join(map(str, found))}; "
            f"up to {BOUNDS[kind]:g} is sound"
        )
        return (
            ok(told, **numbers) if finite[worst] <= BOUNDS[kind] else failed(told, f"use {other}", **numbers)
        )

    def _memory(self) -> Finding:
        """The plan, and on a GPU a step and a drawing at its size; on a CPU a step of a few samples."""
        model, settings = self.loaded, self.settings
        self.plan = planned = plan(model, settings.inversion, settings.redraw)
        if planned.checkpointing:
            model.unet.enable_gradient_checkpointing()
        model.denoising.most, model.decoding.most = planned.denoising, planned.decoding
        tried = planned.step if model.device.type == "cuda" else min(planned.step, FEW)
        inverter, lane = inversion(model, settings, tried)
        step = _peak(model.device, lambda: inverter.advance([lane]))
        numbers = {
            "room_bytes": planned.room,
            "lanes": planned.lanes,
            "samples": {"step": planned.step, "denoising": planned.denoising, "decoding": planned.decoding},
            "checkpointing": planned.checkpointing,
            "tried": tried,
            "step_bytes": step,
        }
        if lane.failure:
            return failed(f"{planned}; {lane.failure}", "use --set model.dtype=bf16 or fp32", **numbers)
        if step is None:
            return ok(f"{planned}; a step of {tried} was tried", **numbers)
        drawing = self._draw_once(lane.vectors.detach())
        numbers["drawing_bytes"] = drawing
        told = f"{planned}; tried: inversion {step / 2**30:.2g} GiB, drawing {drawing / 2**30:.2g} GiB"
        halved = any(part.halved for part in (inverter.passes, model.denoising, model.decoding))
        takes = planned.footprint
        line = takes.checkpointed if planned.checkpointing else takes.step
        most = max(takes.denoising.of(planned.denoising), takes.decoding.of(planned.decoding))
        if halved:
            fix = "free the GPU of other programs; an audit halves its passes by itself"
            return warning(f"{told}; memory ran out, and passes were halved", fix, **numbers)
        if step > SLACK * line.of(planned.step) or drawing > SLACK * most:
            fix = "it works, in smaller passes where need be; report this with what --json says"
            return warning(f"{told}, more than planned", fix, **numbers)
        return ok(told, **numbers)

    def _draw_once(self, vectors: torch.Tensor) -> int:
        """Bytes of a drawing in two denoising steps, on a GPU."""
        model, redraw = self.loaded, self.settings.redraw.model_copy(update={"steps": 2})
        noise = torch.zeros((redraw.count, *model.latent_shape))
        return _peak(model.device, lambda: model.redraw(redraw.prompt, vectors, noise, redraw)) or 0

    def _speed(self) -> Finding:
        assert self.plan is not None, "speed needs memory"
        self.speed = speed = measure(self.loaded, self.settings, self.plan, self.seconds)
        parts = {"step": speed.step, "forward": speed.forward, "decoding": speed.decoding}
        return ok(
            f"UNet forward {speed.forward}, forward and back {speed.step}; VAE {speed.decoding}",
            **{
                name: {"samples_per_second": r.per_second, "samples_a_pass": r.at}
                for name, r in parts.items()
            },
        )

    def _metric(self) -> Finding:
        settings = self.settings.distance
        distance = load_distance(settings, self.device, self.copies("distance").distance)
        told, numbers = f"{distance.name}, digest {distance.digest()}", {"digest": distance.digest()}
        if self.about is None:
            return ok(f"{told}; not tried, as the size of the model's images is not known", **numbers)
        picture, blank = _pictures(self.about.side)
        query, other = distance.embed(np.stack([picture, blank]))
        apart = distance.between(query, [query, other])
        self.judging["metric"] = seconds = _timed(lambda: distance.embed(blank[None]))
        numbers |= {"ms_an_image": 1e3 * seconds, "of_itself": float(apart[0]), "of_blank": float(apart[1])}
        if not np.isfinite(apart).all():
            return failed(f"{told}; its distances are not finite", "use --set distance.dtype=fp32", **numbers)
        return ok(f"{told}; {1e3 * seconds:.3g} ms an image", **numbers)

    def _detector(self) -> Finding:
        settings, subject = self.settings.in_distribution, self.settings.spoken.edit_subject
        check = load_check(settings, subject, self.device, self.copies("in_distribution").detector)
        if check is None:
            return skipped("in_distribution.check is none")
        what = f"{settings.detector}, looks for a {subject}" if check.wants_edits else settings.check
        told, numbers = f"{what}, digest {check.digest()}", {"digest": check.digest()}
        if self.about is None:
            return ok(f"{told}; not tried, as the size of the model's images is not known", **numbers)
        pictures = np.stack(_pictures(self.about.side))
        check.score(pictures, pictures)
        self.judging["detector"] = seconds = _timed(lambda: check.score(pictures, pictures)) / len(pictures)
        return ok(f"{told}; {1e3 * seconds:.3g} ms an image", **numbers, ms_an_image=1e3 * seconds)

    def _pace(self) -> Finding:
        """Images an hour and their price, by the speeds that were measured."""
        assert self.speed is not None, "pace needs speed"
        settings, model = self.settings, self.loaded
        edits = settings.in_distribution.check == "editability"
        judging = (self.judging.get("metric", 0.0), self.judging.get("detector", 0.0))
        found = pace(model, settings, self.speed, edits, judging)
        kind = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "CPU"
        kind, price = self.price(kind)
        hours = {"at_one_token": found.per_hour(1), "at_max_tokens": found.per_hour(settings.max_tokens)}
        usd = {name: None if price is None else 1000 * price / rate for name, rate in hours.items()}
        left_out = [name for name in ("metric", "detector") if name not in self.judging]
        one, most = hours.values()
        told = [
            f"{one:.3g} images/h a worker if all stop at 1 token, {most:.3g} if all go to {settings.max_tokens}",
            f"1,000 images ${usd['at_one_token']:.3g} to ${usd['at_max_tokens']:.3g} at ${price:g} an hour"
            if price is not None
            else f"no price is known (--set cluster.prices='{{{kind}: 1.5}}')",
            f"{found}{' without ' + ' and '.join(left_out) if left_out else ''}, passes full",
        ]
        seconds = {"inversion": found.inversion, "drawing": found.drawing, "judging": found.judging}
        return ok(
            "; ".join(told),
            images_per_hour=hours,
            usd_per_1000=usd,
            usd_per_hour=price,
            kind=kind,
            seconds=seconds,
            not_counted=left_out,
            threads=torch.get_num_threads(),
        )


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _pictures(side: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture with a black square on white, and white alone, each uint8 (side, side, 3)."""
    blank = np.full((side, side, 3), 255, np.uint8)
    picture = blank.copy()
    picture[side // 4 : side // 2, side // 4 : side // 2] = 0
    return picture, blank


def _timed(work: Callable[[], object]) -> float:
    """Seconds, with what a GPU still had to do."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _peak(device: torch.device, work: Callable[[], object]) -> int | None:
    """Bytes that a GPU's memory took at most beyond what it held before; None on a CPU, which does not say."""
    if device.type != "cuda":
        work()
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
