"""The device that a model runs on, and the precisions it runs in."""

from __future__ import annotations

import torch

from originality.contract.config import SettingsError
from originality.model import nvidia
from originality.settings.parts import ModelSettings

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def torch_device(settings: ModelSettings) -> torch.device:
    """The device that the settings name; "auto" is a GPU if torch sees one.

    Raises:
        SettingsError: the settings name a GPU and torch sees none.
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
    """The GPU's product name, or "CPU"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
