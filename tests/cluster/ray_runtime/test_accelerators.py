"""GPU types, their prices, and how many GPUs Ray counts."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager
from ray._private.resource_and_label_spec import ResourceAndLabelSpec
from ray.util.accelerators import accelerators as of_ray

from cluster.ray_runtime.accelerators import NVIDIA, PRICES, is_known
from cluster.ray_runtime.runtime import slices_of_gpus
from cluster.settings import ClusterSettings

# Private: ray._private and NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type, because no public call
# of Ray gives the accelerator type for a card's name, or the GPUs that a node would offer.


def test_every_gpu_that_ray_knows_may_be_named() -> None:
    of_nvidia = {value for name, value in vars(of_ray).items() if name.startswith("NVIDIA_")}
    assert of_nvidia <= set(NVIDIA)
    assert {value for name, value in vars(of_ray).items() if name.startswith("AMD_INST")} <= {
        value for value in vars(of_ray).values() if isinstance(value, str) and is_known(value)
    }
    assert set(PRICES) <= set(NVIDIA)


@pytest.mark.parametrize(
    "card",
    ["NVIDIA A10", "NVIDIA L40", "NVIDIA GeForce RTX 4090", "NVIDIA RTX A6000", "NVIDIA H100 80GB HBM3"],
)
def test_what_ray_makes_of_a_cards_name_may_be_named(card: str) -> None:
    name = NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type(card)
    assert name and ClusterSettings(accelerators=(name,)).accelerators == (name,)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("l4", "L4"), ("A10g", "A10G"), ("H1000", "H100"), ("a100-80g", "A100-80G"), ("TPU-V4", "")],
)
def test_an_unknown_gpu_is_refused_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(ValidationError, match=f"accelerator '{name}'.*{meant}"):
        ClusterSettings(accelerators=("T4", name))


def test_a_bound_on_the_cost_needs_the_price_of_all_that_is_named() -> None:
    ClusterSettings(accelerators=("L4", "B300"))
    with pytest.raises(
        ValidationError, match=r"worker on B300 or L40, .*cluster.prices='\{B300: 1.5, L40: 1.5\}'"
    ):
        ClusterSettings(accelerators=("L4", "B300", "L40"), max_cost=5.0)
    own = ClusterSettings(accelerators=("B300",), prices={"B300": 9.0}, max_cost=5.0)
    assert own.unpriced(["B300"]) is None
    assert own.unpriced(["CPU"]) and ClusterSettings().unpriced(["CPU"]) is None


@pytest.mark.parametrize(
    ("price", "bound", "output"),
    [
        (-1.0, None, "price of L4 is -1"),
        (-1.0, 5.0, "price of L4 is -1"),
        (0.0, 5.0, "price of L4 is 0, .*--max-cost"),
        (float("nan"), 5.0, "prices"),
    ],
)
def test_an_invalid_price_is_refused(price: float, bound: float | None, output: str) -> None:
    with pytest.raises(ValidationError, match=output):
        ClusterSettings(prices={"L4": price, "CPU": 0.1}, max_cost=bound)


def test_a_price_of_zero_is_allowed_without_a_bound() -> None:
    assert ClusterSettings(prices={"CPU": 0.0}).price("CPU", 1.0) == 0.0


def test_seven_slices_of_a_gpu_are_seven_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """If CUDA_VISIBLE_DEVICES names them; Ray gives each worker one, by its name."""
    slices = [f"MIG-{number}c6a2b54-0000-5a9d-8f3e-7a2c0e4f1b6d" for number in range(7)]
    monkeypatch.setattr(
        NvidiaGPUAcceleratorManager, "get_current_node_num_accelerators", staticmethod(lambda: 1)
    )
    monkeypatch.setattr(
        NvidiaGPUAcceleratorManager, "get_current_node_accelerator_type", staticmethod(lambda: "H100")
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(slices))
    of_itself = ResourceAndLabelSpec().resolve(is_head=True, node_ip_address="127.0.0.1")
    assert of_itself.num_gpus == 1, "Ray counts slices itself now"
    counted = ResourceAndLabelSpec(num_gpus=slices_of_gpus())
    assert counted.resolve(is_head=True, node_ip_address="127.0.0.1").num_gpus == 7
    for other in ("0,1", "GPU-3c6a2b54", "", f"{slices[0]},0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", other)
        assert slices_of_gpus() is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert slices_of_gpus() is None
