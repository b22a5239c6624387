"""GPU types by Ray's names, and their prices."""

from __future__ import annotations

NVIDIA = (
    *("K80", "P4", "P100", "V100", "T4", "A2", "A10", "A10G", "A16", "A30", "A40", "A100", "L4", "L40"),
    *("L40S", "H20", "H100", "H200", "GH200", "B200", "B300", "GB200", "GB300", "RTX-PRO-6000"),
    *("A100-40G", "A100-80G"),  # Ray detects neither; a machine has them if its labels say so
)
"""Values of Ray's node label ``ray.io/accelerator-type`` for data centre GPUs: the constants of
ray.util.accelerators, and names that Ray makes of what NVIDIA's driver calls other cards."""

_FAMILIES = ("RTX-", "GeForce-", "Quadro-", "TITAN-", "AMD-")
"""Beginnings of the names of workstation and gaming GPUs (``GeForce-RTX-4090``), too many to list."""


def is_known(name: str) -> bool:
    """Whether a machine may have this accelerator type in Ray."""
    return name in NVIDIA or name.startswith(_FAMILIES)


PRICES = {
    **{"T4": 0.53, "L4": 0.80, "A10G": 1.01, "L40S": 1.86, "RTX-PRO-6000": 4.00, "V100": 3.06},
    **{"A100": 3.43, "A100-40G": 2.74, "A100-80G": 3.43, "H100": 6.88, "H200": 7.91, "B200": 14.24},
}
"""US dollars per hour of one GPU with its share of the machine. An estimate: AWS's on-demand list prices in
us-east-1, as public sources gave them in summer 2026 (g4dn.xlarge, g6.xlarge, g5.xlarge, g6e.xlarge,
g7e.4xlarge, p3.2xlarge; an eighth of p4d, p4de, p5, p5en and p6-b200.48xlarge; A100 as the dearer of its two
sizes). They were not verified with AWS. Spot machines cost less, so a limit on cost ends such a run early,
never late. Other clouds differ: set ``cluster.prices``."""
