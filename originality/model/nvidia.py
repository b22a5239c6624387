"""Why torch sees no GPU: NVIDIA's driver, and which CUDA torch was built for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import torch

KERNEL_MODULE = Path("/proc/driver/nvidia/version")
"""States the version of the loaded driver; visible in containers too."""

_DRIVERS = {"13": 580, "12": 525, "11": 450}
"""Oldest driver that supports a major version of CUDA (NVIDIA's release notes of the CUDA toolkit)."""

NO_CUDA = "install torch with CUDA; PyPI's for Linux has it: pip install --force-reinstall torch"

_SMI_SECONDS = 20.0


def driver() -> str | None:
    """Version of NVIDIA's driver; None if there is none."""
    try:
        found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", KERNEL_MODULE.read_text())
    except OSError:
        found = None
    return found[0] if found else _driver_of_smi()


def _driver_of_smi() -> str | None:
    """The version that nvidia-smi reports: it exists under WSL too, which has no kernel module."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        ran = subprocess.run(query, capture_output=True, text=True, timeout=_SMI_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip().partition("\n")[0] or None


def needed() -> int | None:
    """Oldest driver for the CUDA that torch was built for; None if it was built without CUDA."""
    return _DRIVERS.get((torch.version.cuda or "").partition(".")[0])


def fix(found: str | None) -> str | None:
    """What to do for torch to see the GPU whose driver was ``found``; None if there is no driver."""
    if found is None:
        return None
    if torch.version.cuda is None:
        return NO_CUDA
    least = needed()
    if least is not None and int(found.partition(".")[0]) < least:
        return (
            f"NVIDIA's driver is {found}, and torch for CUDA {torch.version.cuda} needs {least} or newer: "
            "install a newer driver, or a torch for an older CUDA (pytorch.org lists them)"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return (
            f"NVIDIA's driver {found} is installed, but CUDA_VISIBLE_DEVICES={visible!r} hides its GPUs or "
            "names none that exists: unset it"
        )
    return (
        f"NVIDIA's driver {found} is installed and new enough: give the container the GPU (docker run "
        "--gpus all; nvidia.com/gpu in Kubernetes), and check that nvidia-smi lists it"
    )


def missing() -> str | None:
    """Why torch sees no GPU although NVIDIA's driver is installed, with the fix; None if torch sees one, or
    there is no driver."""
    if torch.cuda.is_available():
        return None
    return fix(driver())
