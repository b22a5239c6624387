"""The device that a model computes on, and the precisions it computes in."""

from __future__ import annotations

import torch

from originality.contract.config import SettingsError
from originality.model import nvidia
from originality.settings.parts import ModelSettings

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def torch_device(settings: ModelSettings) -> torch.device:
    """The device that the settings mean, here.

    Raises:
        SettingsError: a GPU is asked for and torch sees none.
    """
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        why = nvidia.missing()
        raise SettingsError(
            "device is cuda, but torch sees no GPU" + (f": {why}, or" if why else ";") + " use --device cpu"
        )
    return torch.device(device)


def device_name(device: torch.device) -> str:
    """ "CPU", or the kind of GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
