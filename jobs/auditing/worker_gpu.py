"""The GPU that Ray gave a worker."""

from __future__ import annotations

import socket

import ray

from originality.contract.faults import MachineFault


def check_gpu() -> None:
    """Check that torch sees the GPU that Ray gave this worker; to be called before a model is loaded.

    Raises:
        MachineFault: it sees none. Without this the device "auto" would go on with the CPU, at a GPU's price.
    """
    given = ray.get_runtime_context().get_accelerator_ids().get("GPU") if ray.is_initialized() else None
    if not given:
        return
    import torch

    if not torch.cuda.is_available():
        raise MachineFault(
            f"Ray gave this worker GPU {', '.join(given)} of {socket.gethostname()}, and torch sees none; "
            "look at nvidia-smi on that machine (the driver must be 580 or newer)"
        )
