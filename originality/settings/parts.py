"""Parts of an audit's settings: model, distance, in-distribution check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from originality.contract.config import Frozen, Precision, commit_of, nearest
from originality.settings import extensions
from originality.settings.roles import Added, Decides, Exhaustive

SHIPPED_MODEL = "shapes"
"""Name of the small Stable Diffusion model that ships with the package."""


class ModelSettings(Frozen):
    """The diffusion model, and how it is run."""

    path: Annotated[str, Decides.WEIGHTS | Decides.TOKENS_NEEDED] = SHIPPED_MODEL
    """The model: a diffusers folder or a single .safetensors file, local or in a bucket; a name on the
    Hugging Face hub; or "shapes", the model that ships with the package.

    Source: our choice; the paper uses CompVis/stable-diffusion-v1-4 (preset ``paper``)."""
    revision: Annotated[str | None, Decides.WEIGHTS, Added.AFTER_RUNS] = None
    """Commit of the model on the hub, 40 hexadecimal digits. Branches and tags are refused because they
    can move to other weights.

    Source: our choice."""
    variant: Annotated[str, Decides.WEIGHTS, Added.AFTER_RUNS] = Field("auto", pattern=r"^[A-Za-z0-9_]+$")
    """Which weight files are fetched and loaded, in diffusers' sense of a variant. "auto": the plain
    files, or fp16 in a part that has no others; "none": plain files only; "fp16" or any other name:
    that variant where a part has it. An fp16 variant is half as large. With ``dtype`` fp16 the UNet
    computes the same from it; the weights of the text encoders are rounded. The model's digest is that
    of the files used.

    Source: our choice."""
    prediction: Annotated[Literal["epsilon", "v_prediction"] | None, Decides.METHOD, Added.AFTER_RUNS] = None
    """What the UNet was trained to predict: the noise ("epsilon") or the velocity ("v_prediction"). None:
    what the scheduler's configuration or a single file's header says. Many files of Stable Diffusion
    2.x do not say it. A value that contradicts the model's own is refused.

    Source: diffusers' prediction_type."""
    dtype: Annotated[Precision, Decides.SPEED] = "fp32"
    """Precision of UNet and VAE. Token vectors, their optimiser and the text encoders always use fp32.

    Source: our choice, as a CPU computes fp16 slowly; the preset ``paper`` uses fp16."""
    vae_dtype: Annotated[Precision | None, Decides.SPEED, Added.AFTER_RUNS] = None
    """Precision of the VAE alone. None: the UNet's, except that an SDXL VAE uses fp32 in place of fp16,
    unless its configuration says that fp16 is sufficient (force_upcast false). An image whose values
    overflow is always decoded again in fp32.

    Source: diffusers' force_upcast."""
    device: Annotated[Literal["auto", "cpu", "cuda"], Decides.MACHINE] = "auto"
    """Where the model runs. "auto": on a GPU if there is one, else on the CPU.

    Source: our choice."""
    attention: Annotated[
        Literal["auto", "xformers", "sdpa", "flash", "sliced"], Decides.SPEED, Added.AFTER_RUNS
    ] = "auto"
    """Implementation of the UNet's attention. "auto": xformers if it is installed and works, else
    PyTorch's scaled_dot_product_attention. "sdpa": always PyTorch's. "flash": PyTorch's with its flash
    kernel, or an error. "sliced": slow, and small in memory only without gradients; an inversion step
    needs more memory than with the others. On a GPU the backward pass of flash attention, which
    xformers and sdpa may use too, sums in no fixed order: two runs may differ in the last bits.

    Source: our choice."""
    gradient_checkpointing: Annotated[Literal["auto", "on", "off"], Decides.SPEED, Added.AFTER_RUNS] = "auto"
    """Whether parts of the UNet are computed a second time in the backward pass instead of being kept in
    memory. "auto": only if the samples of a step do not fit into memory otherwise.

    Source: our choice."""
    tf32: Annotated[bool, Decides.SPEED, Added.AFTER_RUNS] = False
    """Whether a GPU may round the factors of fp32 products to 19 bits (TensorFloat-32).

    Source: PyTorch's default, off, for products of matrices."""
    channels_last: Annotated[bool, Decides.SPEED, Added.AFTER_RUNS] = False
    """Memory format of UNet and VAE with which some GPUs compute convolutions faster.

    Source: our choice; off, as the gain depends on the GPU."""
    compile: Annotated[Literal["off", "default", "cuda-graphs"], Decides.SPEED, Added.AFTER_RUNS] = "off"
    """Whether the UNet is compiled by torch.compile. "cuda-graphs" also records its kernels once (mode
    reduce-overhead).

    Source: our choice; off, as compiling takes time at every start."""
    fit: Annotated[Literal["crop", "pad", "stretch"], Decides.METHOD, Added.AFTER_RUNS] = "crop"
    """How an image becomes the model's square. "crop": its centre, as Hugging Face's textual_inversion.py
    does with ``--center_crop``. "pad": all of it on white. "stretch": all of it, with its sides scaled
    differently, as that script does without the flag. The paper does not say.

    Source: our choice; cropping neither distorts an image nor adds a border."""

    _revision_is_a_commit = field_validator("revision")(commit_of("model.revision"))


THRESHOLDS = {"dreamsim": 0.45, "elements": 0.3}
"""Default threshold of each metric, as each has its own scale. 0.45 separates every published common image
from every published original one (Figures 7 and 8). 0.3 was chosen on tuning images
(docs/effect/README.md). Both are our choice: the paper states no threshold."""


_METRICS = extensions.BUILT_IN[extensions.METRICS]
_DETECTORS = extensions.BUILT_IN[extensions.DETECTORS]


def _known_metrics() -> list[str]:
    return [*_METRICS, *extensions.names(extensions.METRICS)]


class DistanceSettings(Frozen):
    """The distance between a redraw and the image (paper, Section E.2)."""

    metric: Annotated[str, Decides.METHOD | Decides.TOKENS_NEEDED] = Field("dreamsim", examples=[*_METRICS])
    """The distance between a redraw and the image. "dreamsim": DreamSim. "elements": agreement of the
    detected elements, for the world of shapes. "imagenet": features of an ImageNet classifier,
    available without the hub. Or the name of a metric that an installed package brings
    (:mod:`originality.settings.extensions`).

    Source: paper, Section E.2."""
    threshold: Annotated[float, Decides.VERDICT | Decides.TOKENS_NEEDED, Exhaustive(0.0)] = Field(0.45, ge=0)
    """The image counts as redrawn if the mean distance of its redraws is less than this. If left out, it
    is the metric's own value (``THRESHOLDS``, or the package that brings the metric). The paper states
    none.

    Unit: the metric's distance. Source: our choice, for DreamSim from the paper's Figures 7 and 8."""
    folder: Annotated[str | None, Decides.WEIGHTS] = None
    """Folder of the metric's weights, local or a prefix of a bucket, for machines without access to the
    hub. None: they are downloaded.

    Source: our choice."""
    branch: Annotated[
        Literal["ensemble", "dino_vitb16", "clip_vitb32", "open_clip_vitb32"],
        Decides.METHOD,
        Added.AFTER_RUNS,
    ] = "ensemble"
    """DreamSim's published ensemble, or one of its networks alone. A threshold holds for one of them
    only.

    Source: paper, Section E.2."""
    dtype: Annotated[Precision, Decides.SPEED, Added.AFTER_RUNS] = "fp32"
    """Precision of DreamSim's networks. Embeddings are always compared in float64.

    Source: our choice."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_threshold(cls, given: Any) -> Any:
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
    def _check_metric(cls, metric: str) -> str:
        if metric not in _known_metrics():
            raise ValueError(f"'distance.metric' {metric!r} is unknown{nearest(metric, _known_metrics())}")
        return metric


class InDistributionSettings(Frozen):
    """Whether a pseudo-word behaves like a word of the model and is no copy of one picture (paper,
    Section 3.1)."""

    check: Annotated[Literal["positions", "editability", "none"], Decides.METHOD | Decides.TOKENS_NEEDED] = (
        "editability"
    )
    """How a pseudo-word is checked. "editability": the edit subject appears for the domain's edit prompt
    (Section 4.2). "positions": elements stand at different places in every redraw (Section 3.1 and
    Appendix C, for the world of shapes). "none": no check.

    Source: paper, Section 4.2."""
    threshold: Annotated[float, Decides.VERDICT] = Field(0.5, ge=0)
    """The least score that passes. Each check defines its own score.

    Unit: the check's score. Source: our choice; the paper states none."""
    detector: Annotated[str, Decides.METHOD, Added.AFTER_RUNS] = Field("imagenet", examples=[*_DETECTORS])
    """What looks for the edit subject. "imagenet": the ImageNet classes of EfficientNet-Lite0, whose
    weights are installed as a Python package. "detr": an object detector trained on COCO, as in
    GenEval. "clip": CLIP, which compares the subject with other things that an image might show. Or
    the name of a detector that an installed package brings (:mod:`originality.settings.extensions`).
    The paper does not say.

    Source: our choice; the default needs no download."""
    folder: Annotated[str | None, Decides.WEIGHTS, Added.AFTER_RUNS] = None
    """Weights of the detectors "detr" and "clip": a folder in transformers' format, local or a prefix of
    a bucket, or a name on the hub.

    Source: our choice."""
    revision: Annotated[str | None, Decides.WEIGHTS, Added.AFTER_RUNS] = None
    """Commit of that detector on the hub, 40 hexadecimal digits.

    Source: our choice."""
    detector_score: Annotated[float, Decides.METHOD, Added.AFTER_RUNS] = Field(0.3, gt=0, lt=1)
    """The least score with which the subject counts as seen in one image.

    Unit: the detector's score, between 0 and 1. Source: GenEval's detector."""

    ask: Annotated[
        Literal["always", "redrawn"], Decides.VERDICT | Decides.COST, Added.AFTER_RUNS, Exhaustive("always")
    ] = "always"
    """Which pseudo-words are checked. "always": every one. "redrawn": only those whose distance passed,
    since no other can pass.

    Source: "always" is the paper; "redrawn" is ours, for speed."""

    _revision_is_a_commit = field_validator("revision")(commit_of("in_distribution.revision"))

    @field_validator("detector")
    @classmethod
    def _check_detector(cls, detector: str) -> str:
        known = [*_DETECTORS, *extensions.names(extensions.DETECTORS)]
        if detector not in known:
            raise ValueError(f"'in_distribution.detector' {detector!r} is unknown{nearest(detector, known)}")
        return detector

    @model_validator(mode="after")
    def _check_detector_weights(self) -> Self:
        if self.check == "editability" and self.detector in ("detr", "clip") and not self.folder:
            raise ValueError(
                f"in_distribution.detector {self.detector!r} needs weights: set in_distribution.folder to a "
                "folder, or to a name on the hub with in_distribution.revision"
            )
        return self
