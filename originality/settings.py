"""Every knob of an audit, in one place: frozen, checked, each with its unit and source.

A YAML file and command line flags fill the same models; an unknown key is an error that names the nearest
known one. ``paper`` is the published protocol (arXiv 2408.08184, Sections 4.2 and E); what the paper does
not state is marked "our choice".
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from originality.prompts import DOMAINS, REDRAW_PROMPT
from originality.scoring import Unusable

SHIPPED_MODEL = "shapes"
"""Name of the small Stable Diffusion that comes with the package."""


class SettingsError(Unusable):
    """A setting that cannot be; the message is one line and says the fix."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class ModelSettings(Frozen):
    """Which model is asked, and where it runs."""

    path: str = SHIPPED_MODEL
    """A diffusers folder, local or as a prefix of a bucket; a name on the hub; or "shapes": the model that
    ships."""
    revision: str | None = None
    """Commit of the hub's model, 40 hex digits. Names and branches of the hub may come to mean others."""
    dtype: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Precision of UNet and VAE; token vectors and their optimiser are always fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """"auto" takes a GPU where there is one."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How an image becomes the model's square: its centre, as the paper's resize; the whole on white; or the
    whole, stretched."""

    @field_validator("revision")
    @classmethod
    def _is_a_commit(cls, revision: str | None) -> str | None:
        if revision is not None and not re.fullmatch("[0-9a-f]{40}", revision):
            raise ValueError(
                f"model.revision {revision!r} must be a commit of 40 hex digits, as branches move; the "
                "model's page on the hub lists them"
            )
        return revision


class InversionSettings(Frozen):
    """Multi-token textual inversion (Section 3.1, E.1)."""

    steps: int = Field(2000, ge=1)
    """Optimiser steps for one number of tokens."""
    batch_size: int = Field(20, ge=1)
    """Noise samples of one image in a step."""
    learning_rate: float = Field(5e-4, gt=0)
    """Step size of AdamW, constant. No weight decay: our choice (it is named nowhere in the paper)."""
    timesteps: Literal["uniform", "stratified"] = "uniform"
    """How a step draws its noise levels: independently (Gal et al.), or one from each equal part of the
    schedule (ours: the same mean, less noise)."""
    lanes: int = Field(1, ge=1)
    """Images that share one UNet pass. Every pass has this many lanes: a short one is filled up with
    repeats, so that an image's numbers do not depend on how many neighbours it had."""


class RedrawSettings(Frozen):
    """Drawing the concept again from its pseudo-word (Section 3.1, E.2)."""

    count: int = Field(20, ge=2)
    """Redraws whose mean distance is the score."""
    steps: int = Field(35, ge=1)
    """Denoising steps: 35 for Stable Diffusion v1-4, 50 in the synthetic setting."""
    scheduler: Literal["pndm", "ddim", "euler", "dpm++", "unipc"] = "pndm"
    """One of diffusers' samplers; PNDM is v1-4's own."""
    guidance_scale: float = Field(7.5, ge=0)
    """Classifier-free guidance: our choice (diffusers' default); 0 or 1 turn it off."""
    prompt: str = REDRAW_PROMPT
    """``{}`` stands for the pseudo-word."""

    @field_validator("prompt")
    @classmethod
    def _speaks_the_word(cls, prompt: str) -> str:
        if prompt.count("{}") != 1:
            raise ValueError(f"redraw.prompt {prompt!r} must hold {{}} exactly once: the pseudo-word's place")
        return prompt


THRESHOLDS = {"dreamsim": 0.45, "elements": 0.3}
"""Each metric has a scale of its own. 0.45 separates every published common image from every published
original one (Figures 7 and 8); 0.3 was chosen on tuning images (docs/effect/README.md). Both our choice."""


class DistanceSettings(Frozen):
    """How far a redraw is from the image."""

    metric: Literal["elements", "dreamsim", "imagenet"] = "dreamsim"
    """"elements" for the world of shapes, "dreamsim" as the paper, "imagenet" offline without hub."""
    threshold: float = Field(0.45, ge=0)
    """A mean distance under this is a redraw. Left out, it is the metric's own of THRESHOLDS."""
    folder: str | None = None
    """Offline folder of the metric's weights, where it has some."""

    @model_validator(mode="before")
    @classmethod
    def _threshold_of_the_metric(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get("threshold") is not None:
            return given
        metric = given.get("metric", "dreamsim")
        if metric == "imagenet":
            raise ValueError(f"no threshold is known for distance.metric {metric!r}; set distance.threshold")
        known = THRESHOLDS.get(metric)
        return given if known is None else {**given, "threshold": known}


class InDistributionSettings(Frozen):
    """Whether the pseudo-word stays a word of the model and is no copy of one picture (Section 3.1)."""

    check: Literal["positions", "editability", "none"] = "editability"
    """"editability": the edit subject appears for the domain's edit prompt (Section 4.2); "positions": the
    elements stand elsewhere in every redraw (synthetic setting)."""
    threshold: float = Field(0.5, ge=0)
    """Least score that passes; the check says what its score means. Our choice."""


LATER = (("model", "fit"), ("model", "revision"))
"""Settings that came after the first runs."""


class AuditSettings(Frozen):
    """One audit: the whole of what decides a verdict."""

    model: ModelSettings = ModelSettings()
    domain: str = "shapes"
    """Initial word and templates: one of originality.prompts.DOMAINS."""
    max_tokens: int = Field(5, ge=1, le=16)
    """The sweep ends here; an image that never passed is censored ("+" in Figure 6)."""
    inversion: InversionSettings = InversionSettings()
    redraw: RedrawSettings = RedrawSettings()
    distance: DistanceSettings = DistanceSettings()
    in_distribution: InDistributionSettings = InDistributionSettings()
    seed: int = Field(0, ge=0)
    """Every random number is drawn from a generator keyed by (seed, image_id, m, step)."""

    @model_validator(mode="after")
    def _domain_exists(self) -> Self:
        if self.domain not in DOMAINS:
            raise ValueError(f"domain {self.domain!r} is unknown{nearest(self.domain, DOMAINS)}")
        return self

    @model_validator(mode="after")
    def _check_can_read_the_images(self) -> Self:
        if self.in_distribution.check == "positions" and self.distance.metric != "elements":
            raise ValueError(
                "in_distribution.check 'positions' reads only elements of the world of shapes; with "
                f"distance.metric {self.distance.metric!r} set in_distribution.check to editability or none"
            )
        return self

    def digest(self) -> str:
        """Short digest of everything that decides a verdict.

        A setting of ``LATER`` counts only where it is not at its default, so that runs from before it go on.
        """
        said = self.model_dump(mode="json")
        for part, name in LATER:
            if said[part][name] == type(getattr(self, part)).model_fields[name].default:
                del said[part][name]
        text = json.dumps(said, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "domain": "houses",
        "model": {
            "path": "CompVis/stable-diffusion-v1-4",
            "revision": "133a221b8aa7292a167afc5127cb63fb5005638b",
            "dtype": "fp16",
        },
    },
    "paper-shapes": {
        "redraw": {"steps": 50},
        "distance": {"metric": "elements"},
        "in_distribution": {"check": "positions"},
    },
    "laptop": {
        "inversion": {
            "steps": 60,
            "batch_size": 8,
            "learning_rate": 1e-2,
            "timesteps": "stratified",
            "lanes": 3,
        },
        "redraw": {"steps": 15, "scheduler": "dpm++", "guidance_scale": 3.0},
        "distance": {"metric": "elements"},
        "in_distribution": {"check": "positions"},
    },
}
"""Named settings. ``paper``: Section 4.2 on Stable Diffusion v1-4; ``paper-shapes``: Appendix E.1 on the
world of shapes; ``laptop``: the model that ships, on two cores."""

DEFAULT_PRESET = "laptop"


def nearest(word: str, known: Any) -> str:
    """The end of an error message: what may have been meant."""
    names = sorted(str(k) for k in known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    if over.get("path", base.get("path")) != base.get("path"):
        merged.pop("revision", None)  # a commit of another model
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def load_settings(
    preset: str | None = None,
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
) -> AuditSettings:
    """Settings from a preset, over it a YAML file, over both the flags (a nested mapping).

    The YAML file may name its own ``preset``; a preset given by flag beats it.

    Raises:
        SettingsError: an unknown key, preset or domain, or an impossible value.
    """
    chosen: dict[str, Any] = {}
    if file is not None:
        chosen = read_yaml(file)
    chosen.pop("cluster", None)  # the engine's own part
    file_preset = chosen.pop("preset", None)
    name = preset or file_preset or DEFAULT_PRESET
    if not isinstance(name, str) or name not in PRESETS:
        raise SettingsError(f"preset {name!r} is unknown{nearest(str(name), PRESETS)}")
    values = _merge(_merge(PRESETS[name], chosen), flags or {})
    try:
        return AuditSettings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(one_line(error)) from error


def read_yaml(file: Path) -> dict[str, Any]:
    """A file of settings.

    Raises:
        SettingsError: it cannot be read, or holds something else.
    """
    try:
        text = file.read_text()
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not a text file; give a YAML file of settings") from error
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise SettingsError(f"{file} is not valid YAML{line}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{file} must hold settings as 'key: value' lines")
    return values


def one_line(error: ValidationError, prefix: str = "") -> str:
    """The first problem of a validation, with the setting's path and the nearest known key."""
    problem = error.errors(include_url=False)[0]
    path = prefix + ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        model: type[BaseModel] = AuditSettings
        for part in problem["loc"][:-1]:
            inner = model.model_fields[str(part)].annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
        key = str(problem["loc"][-1])
        return f"unknown setting {path!r}{nearest(key, model.model_fields)}"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"]) if "ctx" in problem else problem["msg"]
    return f"setting {path!r}: {problem['msg']} (given: {problem['input']!r})"
