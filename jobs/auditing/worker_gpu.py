"""The GPU that Ray gave a worker."""

from __future__ import annotations

import socket

import ray

from originality.contract.faults import MachineFault


def check_gpu() -> None:
    """Check that torch sees the GPU that Ray gave this worker. Call it before a model is loaded.

    Without this check, the device "auto" would fall back to the CPU, at the price of a GPU.

    Raises:
        MachineFault: torch sees no GPU.
    """
    given = ray.get_runtime_context().get_accelerator_ids().get("GPU") if ray.is_initialized() else None
    if not given:
        return
    import torch

    if not torch.cuda.is_available():
        raise MachineFault(
            f"Ray gave this worker GPU {', '.join(given)} of {socket.gethostname()}, but torch sees no GPU; "
            "check nvidia-smi on that machine (the driver must be 580 or newer)"
        )
