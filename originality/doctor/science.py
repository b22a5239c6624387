"""Checks of model, metric and detector: whether they are present, work, and how fast they are."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from originality.contract.findings import Check, Finding, failed, ok, skipped
from originality.cost.memory_plan import MemoryPlan, plan
from originality.doctor import judges, machine
from originality.doctor.memory import memory
from originality.doctor.precision import BOUNDS, errors
from originality.doctor.speed import Speed, measure, pace
from originality.inversion.inverter import Inverter
from originality.model.attention import PROCESSORS, installed
from originality.model.device import device_name, torch_device
from originality.model.diffusion import LatentDiffusion
from originality.model.model_folder import ModelFolder, open_model
from originality.settings.audit import AuditSettings
from originality.settings.domains import edit_prompt
from originality.settings.local_weights import Copies

_MEMORY = "close other programs on the device, or use --set model.dtype=fp16 or a larger device"
_REINSTALL = "give complete weights; if they are, please report this with the output of --json"


@dataclass
class Checkup:
    """The checks for one audit's settings. Each stores what later checks need."""

    settings: AuditSettings
    copies: Callable[[str], Copies]
    """Returns this machine's copies of the weights of "model", "distance" or "in_distribution"."""
    price: Callable[[str], tuple[str, float | None]]
    """For a GPU by torch's name, or "CPU": its name in the table of prices, and the price of a worker on it
    in US dollars an hour."""
    seconds: float = 10.0
    """Time for measuring speed."""
    dreamsim_pictures: Path | None = None
    """Folder of the three pictures whose distances DreamSim's authors publish."""
    folder: ModelFolder | None = None
    model: LatentDiffusion | None = None
    plan: MemoryPlan | None = None
    speed: Speed | None = None
    judging: dict[str, float | None] = field(default_factory=dict)
    """Milliseconds per image of metric and detector."""

    def of_machine(self) -> list[Check]:
        """Checks of the installation and its GPU, which need no model."""
        return [
            Check("versions", machine.versions),
            Check("GPU", lambda: machine.gpu(self.settings.model)),
            Check("xformers", self._xformers, ("GPU",)),
        ]

    def of_weights(self) -> list[Check]:
        """Checks to run after those of the machine."""
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
            Check("published distances", self._published, ("metric",), _REINSTALL),
            Check("detector", self._detector, on_device, _REINSTALL),
            Check("pace", self._pace, ("speed",)),
        ]

    @property
    def device(self) -> torch.device:
        """The device that the settings name."""
        return torch_device(self.settings.model)

    @property
    def loaded(self) -> LatentDiffusion:
        """The model, for checks that run after it was loaded."""
        assert self.model is not None, "checks of the model depend on loading"
        return self.model

    def _xformers(self) -> Finding:
        return machine.xformers(self.settings.model, self.device)

    def _model(self) -> Finding:
        wanted = self.settings.model
        self.folder = folder = open_model(wanted, self.copies("model").model)
        about, size = folder.description, folder.weights_bytes
        encoders = (
            "one text encoder" if len(about.tokenizers) == 1 else f"{len(about.tokenizers)} text encoders"
        )
        return ok(
            f"{wanted.path}: {about.side} px, predicts {about.prediction}, {encoders}, "
            f"{size / 1e9:.2g} GB of weights",
            side=about.side,
            prediction=about.prediction,
            text_encoders=len(about.tokenizers),
            bytes=size,
        )

    def _loading(self) -> Finding:
        started = time.monotonic()
        self.model = model = LatentDiffusion(self.settings.model, self.folder)
        seconds = time.monotonic() - started
        parameters = sum(p.numel() for p in model.unet.parameters())
        kinds = f"{_named(model.dtype)}, VAE in {_named(model.vae_dtype)}"
        return ok(
            f"UNet of {parameters / 1e6:.3g} M parameters in {kinds}, on {model.device.type} in "
            f"{seconds:.1f} s; digest {model.digest}",
            **{"digest": model.digest, "unet_parameters": parameters, "seconds": seconds},
        )

    def _domain(self) -> Finding:
        """Check that the prompts fit into the text encoders. Apart from loading, as a different domain may
        fit."""
        settings, domain = self.settings, self.settings.selected_domain
        Inverter(self.loaded, domain, settings.inversion, settings.seed)
        edits = [edit_prompt(domain.subject_for(word)) for word in domain.initial_words]
        prompts = [*domain.templates, settings.redraw.prompt, *edits]
        self.loaded.text.tokenise(prompts, settings.max_tokens)
        return ok(
            f"{domain.name}: starts at {' or '.join(domain.initial_words)}; its {len(domain.templates)} "
            f"templates have room for {settings.max_tokens} tokens",
            **{"initial_words": list(domain.initial_words), "templates": len(domain.templates)},
        )

    def _attention(self) -> Finding:
        choice, found = self.loaded.attention, sorted(installed(self.loaded.unet))
        numbers = {"chosen": choice.name, "why": choice.why, "processors": found}
        text = f"{choice}; the UNet's layers use {', '.join(found)}"
        if found != [type(PROCESSORS[choice.name]()).__name__]:
            return failed(text, "use --set model.attention=sdpa", **numbers)
        return ok(text, **numbers)

    def _precision(self) -> Finding:
        kind = self.settings.model.dtype
        if kind == "fp32":
            return skipped("model.dtype is fp32: nothing to compare")
        prompt = self.settings.redraw.prompt.format(self.settings.selected_domain.initial_words[0])
        assert self.folder is not None, "a loaded model was opened before"
        found = errors(self.loaded, self.settings.model, self.folder, prompt)
        finite = {t: error for t, error in found.items() if math.isfinite(error)}
        numbers = {"dtype": kind, "bound": BOUNDS[kind], "errors": {str(t): finite.get(t) for t in found}}
        other = "--set model.dtype=bf16 or fp32" if kind == "fp16" else "--set model.dtype=fp32"
        if lost := [str(t) for t in found if t not in finite]:
            text = f"the UNet's prediction in {kind} is not finite at timestep {', '.join(lost)}"
            return failed(text, f"use {other}", **numbers)
        worst = max(finite, key=lambda t: finite[t])
        text = f"{kind} differs from fp32 by {finite[worst]:.2g} at timestep {worst}, the worst of "
        text += f"{', '.join(map(str, found))}; up to {BOUNDS[kind]:g} is accepted"
        return (
            ok(text, **numbers) if finite[worst] <= BOUNDS[kind] else failed(text, f"use {other}", **numbers)
        )

    def _memory(self) -> Finding:
        self.plan = plan(self.loaded, self.settings.inversion, self.settings.redraw)
        return memory(self.loaded, self.settings, self.plan)

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
        side = self.folder.description.side if self.folder else None
        finding = judges.metric(self.settings, self.device, self.copies("distance"), side, self.seconds)
        self.judging["metric"] = finding.numbers.get("ms_an_image")
        return finding

    def _published(self) -> Finding:
        copies = self.copies("distance")
        return judges.published_distances(self.settings, self.device, copies, self.dreamsim_pictures)

    def _detector(self) -> Finding:
        side = self.folder.description.side if self.folder else None
        copies = self.copies("in_distribution")
        finding = judges.detector(self.settings, self.device, copies, side, self.seconds)
        self.judging["detector"] = finding.numbers.get("ms_an_image")
        return finding

    def _pace(self) -> Finding:
        """Images per hour and their price, derived from the measured speeds."""
        assert self.speed is not None, "pace needs speed"
        settings, model = self.settings, self.loaded
        wanted = ["metric"] if settings.in_distribution.check == "none" else ["metric", "detector"]
        not_counted = [name for name in wanted if not self.judging.get(name)]
        found = pace(model, settings, self.speed, sum(ms or 0.0 for ms in self.judging.values()) / 1e3)
        gpu = device_name(model.device)
        kind, price = self.price(gpu)
        one, most = found.per_hour(1), found.per_hour(settings.max_tokens)
        text = f"{one:.3g} images/h per worker if all stop at 1 token, "
        text += f"{most:.3g} if all go to {settings.max_tokens}"
        if price:
            text += (
                f"; 1,000 cost ${1000 * price / one:.3g} to ${1000 * price / most:.3g} at ${price:g} an hour"
            )
        else:
            text += f"; their price is unknown (--set cluster.prices='{{{kind}: 1.5}}')"
        text += f"; with full passes {found}" + "".join(f", without {name}" for name in not_counted)
        return ok(
            text,
            images_per_hour={"at_one_token": one, "at_max_tokens": most},
            usd_per_1000={"at_one_token": 1000 * price / one, "at_max_tokens": 1000 * price / most}
            if price
            else None,
            usd_per_hour=price,
            kind=kind,
            seconds={"inversion": found.inversion, "drawing": found.drawing, "judging": found.judging},
            not_counted=not_counted,
            threads=torch.get_num_threads(),
        )


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
