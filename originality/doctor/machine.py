"""Checks of installed packages, and of the GPU as torch sees it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, requires, version

import torch
from packaging.requirements import Requirement

from originality.contract.findings import Finding, failed, ok, warning
from originality.model import nvidia
from originality.model.attention import WHEEL, choose
from originality.model.device import DTYPES
from originality.settings.parts import ModelSettings

REPORTED = ("originality", "torch", "diffusers", "transformers", "ray")

HEADS = [40, 64, 80, 160]
"""Widths of attention heads that xformers is tried with: 40, 80 and 160 occur in Stable Diffusion 1.x, 64 in
2.x and XL."""

_CUDA_12 = "libcudart.so.12"
"""Named in the error of an xformers that is built for CUDA 12 and cannot be loaded."""

_ON_A_GPU_NODE = (
    "use --device cpu; on a cluster run this on a node with GPUs: "
    "ray job submit --entrypoint-num-gpus 1 -- python -m jobs.doctor ..."
)


def versions() -> Finding:
    """Report versions, and check that all installed packages meet the requirements."""
    found = {"python": platform.python_version(), **{name: installed_version(name) for name in REPORTED}}
    text = ", ".join(f"{name} {number}" for name, number in found.items())
    wrong = [r for r in requirements_of("originality") if installed_version(r.name) is None or not _meets(r)]
    if wrong:
        names = ", ".join(f"{r.name} {installed_version(r.name) or 'missing'}" for r in wrong)
        wanted = " ".join(f"'{r.name}{r.specifier}'" for r in wrong)
        return failed(f"{text}; requirements not met: {names}", f"pip install {wanted}", **found)
    return ok(text, **found)


def installed_version(name: str) -> str | None:
    """Version of an installed package; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def requirements_of(name: str) -> list[Requirement]:
    """Requirements of a package, without those of its extras."""
    try:
        wanted = [Requirement(line) for line in requires(name) or ()]
    except PackageNotFoundError:  # run from a checkout that is not installed
        return []
    return [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]


def _meets(wanted: Requirement) -> bool:
    return wanted.specifier.contains(version(wanted.name), prereleases=True)


def gpu(settings: ModelSettings) -> Finding:
    """Check that torch can compute on a GPU if one is requested or present."""
    driver = nvidia.driver()
    if settings.device == "cpu":
        return ok("not used: device is cpu", driver=driver)
    reason = _no_cuda()
    if reason is None:
        return _working_gpu(settings, driver)
    found = f"torch {torch.__version__} sees no GPU: {reason}"
    no_cuda = torch.version.cuda is None and settings.device == "cuda"
    fix = nvidia.fix(driver) or (nvidia.NO_CUDA if no_cuda else _ON_A_GPU_NODE)
    numbers = {"driver": driver, "cuda_of_torch": torch.version.cuda}
    if settings.device == "cuda":
        return failed(found, fix, **numbers)
    if driver:
        return warning(f"{found}; the CPU is used", fix, **numbers)
    return ok("no GPU found; the CPU is used", **numbers)


def _no_cuda() -> str | None:
    """Torch's reason why it has no GPU; None if it has one."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # AssertionError: a build without CUDA
        return str(error).partition(". ")[0].strip().splitlines()[0]
    return None if torch.cuda.device_count() else "no GPU is visible (CUDA_VISIBLE_DEVICES?)"


def _working_gpu(settings: ModelSettings, driver: str | None) -> Finding:
    props = torch.cuda.get_device_properties(0)
    numbers = {
        "gpu": props.name,
        "gpus": torch.cuda.device_count(),
        "memory_bytes": props.total_memory,
        "compute_capability": f"{props.major}.{props.minor}",
        "cuda_of_torch": torch.version.cuda,
        "driver": driver,
    }
    text = (
        f"{props.name}, {props.total_memory / 2**30:.1f} GiB, compute capability "
        f"{props.major}.{props.minor}; driver {driver or 'unknown'}, torch for CUDA {torch.version.cuda}"
    )
    if torch.cuda.device_count() > 1:
        text = f"{torch.cuda.device_count()} GPUs, the first {text}"
    try:
        torch.ones(8, device="cuda").sum().item()
    except RuntimeError as error:
        fix = f"install a torch with kernels for sm_{props.major}{props.minor}; this one has those for "
        return failed(
            f"{text}; it does not compute: {str(error).splitlines()[0]}",
            fix + ", ".join(torch.cuda.get_arch_list()),
            **numbers,
        )
    if settings.dtype == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return warning(
            f"{text}; it has no hardware support for bf16", "use --set model.dtype=fp16", **numbers
        )
    return ok(text, **numbers)


def xformers(settings: ModelSettings, device: torch.device) -> Finding:
    """Check that xformers is installed, matches torch and works. It fails only if the settings require
    it."""
    installed = installed_version("xformers")
    wanted = settings.attention == "xformers"
    unfit = (
        [r for r in requirements_of("xformers") if r.name == "torch" and not _meets(r)] if installed else []
    )
    numbers = {"xformers": installed, "fits_torch": not unfit if installed else None, "works": False}
    if installed is None and not wanted:
        return ok("not installed; PyTorch's own attention is used", **numbers)
    why = choose("auto", HEADS, device, DTYPES[settings.dtype])
    if why.name == "xformers" and not unfit:
        return ok(f"{installed}, and works here", **{**numbers, "works": True})
    found = f"{installed}: {why.why}" if installed else why.why
    fix = "use --set model.attention=sdpa"
    if _CUDA_12 in why.why:
        fix = f"this xformers is built for CUDA 12: pip install --force-reinstall --no-deps {WHEEL}, or {fix}"
    if unfit:
        own = installed_version("torch")
        found = f"{installed} wants torch{unfit[0].specifier}, and {own} is installed; {why.why}"
        fix = f"pip install --upgrade xformers 'torch=={own}', or {fix}"
    if wanted:
        return failed(found, fix, **numbers)
    return ok(found, **numbers) if device.type == "cpu" else warning(found, fix, **numbers)
