"""A lane's steps against the same rules on the host, when the host reads them, and a lane's state."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from originality.inversion.lane import GOOD_STEPS, HostCopy, Lane, LossScale
from originality.model.diffusion import Moments
from originality.model.randomness import keyed_generator
from originality.settings.inversion import InversionSettings

RATE = 1e-2
SHAPE = (3, 40)


def lane(scale: float = 1.0, good: int = 0, rate: float = RATE) -> Lane:
    vectors = torch.randn(SHAPE, generator=keyed_generator("start")).requires_grad_(True)
    optimiser = torch.optim.AdamW([vectors], lr=rate, weight_decay=0.0, fused=True)
    moments = Moments(torch.zeros(1), torch.zeros(1))
    return Lane("a", moments, 3, vectors, optimiser, LossScale(scale, good), lambda _lane: "the loss")


def gradient(step: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=keyed_generator("gradient", step)) * 1e-3


def take(lane: Lane, loss: float, gradient: torch.Tensor, behind: int = 1) -> None:
    lane.record(HostCopy(lane.update(torch.tensor(loss), gradient * lane.scale.factor)[None]), 0)
    lane.read_losses(behind)


class PlainScale:
    """The rules of PyTorch's GradScaler, on the host."""

    def __init__(self, value: float, good: int = 0) -> None:
        self.value, self.good, self.skipped = value, good, 0

    def update(self, held: bool) -> None:
        if held:
            self.good += 1
            if self.good == GOOD_STEPS and self.value > 1:
                self.value, self.good = self.value * 2, 0
        elif self.value >= 1:
            self.value, self.good, self.skipped = self.value / 2, 0, self.skipped + 1


NUMBERS = st.sampled_from(["sound", "sound", "sound", "loss", "infinite gradient", "one nan"])


@given(numbers=st.lists(NUMBERS, max_size=40), power=st.integers(0, 12), rate=st.floats(1e-4, 1e-1))
def test_steps_equal_adamws_and_skips_those_of_the_rules_on_the_host(numbers, power, rate):
    """With a different learning rate at every step, as a schedule sets it."""
    ours, plain = lane(2.0**power, GOOD_STEPS - 10), PlainScale(2.0**power, GOOD_STEPS - 10)
    theirs = ours.vectors.detach().clone().requires_grad_(True)
    reference = torch.optim.AdamW([theirs], weight_decay=0.0, foreach=False)
    losses, failed_at = [], None
    for step, kind in enumerate(numbers):
        own, loss = gradient(step), math.nan if kind == "loss" else 1.0 + step
        if kind == "infinite gradient":
            own *= math.inf
        elif kind == "one nan":
            own[1, 7] = math.nan
        for optimiser in (ours.optimiser, reference):
            optimiser.param_groups[0]["lr"] = rate / (1 + step)
        take(ours, loss, own)
        if failed_at is None:
            plain.update(kind == "sound")
            failed_at = step if plain.value < 1 else None
        if kind == "sound" and failed_at is None:
            theirs.grad = own
            reference.step()
        if failed_at is None:
            losses.append(loss if kind == "sound" else math.nan)
    ours.read_losses()
    assert torch.allclose(ours.vectors, theirs, rtol=1e-6, atol=1e-6)
    assert (ours.scale.value, ours.scale.good, ours.scale.skipped) == (plain.value, plain.good, plain.skipped)
    assert ours.losses == pytest.approx(losses, abs=0, rel=0, nan_ok=True)
    assert (ours.failure is None) == (failed_at is None)
    assert ours.step == (len(numbers) if failed_at is None else failed_at)
    if ours.optimiser.state:
        assert ours.optimiser.state[ours.vectors]["step"] == sum(map(math.isfinite, losses))


@given(st.lists(st.booleans(), max_size=80), st.integers(0, 20))
def test_a_loss_scale_is_halved_at_every_overflow_and_exhausted_under_one(overflows, power):
    scale = LossScale(2.0**power)
    for overflow in overflows:
        scale.update(torch.tensor(not overflow))
    assert scale.skipped == min(sum(overflows), power + 1)
    assert scale.value == 2.0 ** (power - scale.skipped)
    assert scale.usable == (scale.skipped <= power)


def test_a_loss_scale_is_doubled_after_many_good_steps():
    scale, unscaled, held = LossScale(4.0, GOOD_STEPS - 3), LossScale(1.0, GOOD_STEPS - 3), torch.tensor(True)
    for _ in range(2):
        scale.update(held)
    assert (scale.value, scale.good) == (4.0, GOOD_STEPS - 1)
    scale.update(held)
    assert (scale.value, scale.good) == (8.0, 0)
    for _ in range(5):
        unscaled.update(held)
    assert (unscaled.value, unscaled.good) == (1.0, GOOD_STEPS + 2)


def test_losses_are_known_a_step_later_and_all_of_them_when_the_lane_is_finished():
    own = lane()
    for step in range(3):
        take(own, float(step), gradient(step))
        assert own.losses == [float(s) for s in range(step)]
    assert not own.finished(InversionSettings(steps=4))
    assert own.losses == [0.0, 1.0]
    assert own.finished(InversionSettings(steps=3))
    assert own.losses == [0.0, 1.0, 2.0]


def test_a_failure_of_the_last_step_is_known_when_the_lane_is_finished():
    own = lane()
    take(own, 0.5, gradient(0))
    take(own, math.nan, gradient(1))
    assert own.failure is None
    assert own.finished(InversionSettings(steps=2))
    assert own.failure and "loss of step 1" in own.failure
    assert (own.step, own.losses, own.scale.skipped) == (1, [0.5], 1)


@pytest.mark.parametrize("more", [0, 1, 2, 5])
@pytest.mark.parametrize("behind", [0, 1])
def test_a_failed_lane_is_the_same_however_late_the_host_reads_the_failure(more, behind):
    """Steps that follow the failure change nothing, nor does reading it again."""

    def state(own: Lane):
        held = own.optimiser.state[own.vectors].values()
        scale = own.scale
        return own.step, str(own.losses), own.failure, scale.value, scale.skipped, scale.good, *map(str, held)

    def failed() -> Lane:
        own = lane(2.0)
        take(own, 0.5, gradient(0), behind)
        for step in (1, 2):
            take(own, 0.5, gradient(step) * math.inf, behind)
        return own

    at_once, late = failed(), failed()
    at_once.read_losses()
    assert at_once.failure and "gradient of step 2" in at_once.failure
    assert (at_once.step, str(at_once.losses), at_once.scale.skipped) == (2, "[0.5, nan]", 2)
    for step in range(more):
        take(late, 0.5, gradient(3 + step), behind)
        take(at_once, 0.5, gradient(2 + step), behind)
    late.read_losses()
    assert torch.equal(late.vectors, at_once.vectors)
    assert state(late) == state(at_once)


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_lane_with_a_loaded_state_takes_the_same_steps(before):
    """Also one that took other steps before, and after a step that was skipped."""

    def step(own: Lane, k: int) -> None:
        take(own, math.nan if k == 1 else float(k), gradient(k))

    original, other = lane(4.0), lane(2.0)
    for k in range(before):
        step(original, k)
    take(other, 7.0, gradient(9))
    other.load_state_dict(original.state_dict())
    for own in (original, other):
        for k in range(before, 5):
            step(own, k)
    ours, theirs = other.state_dict(), original.state_dict()
    assert torch.equal(ours.pop("vectors"), theirs.pop("vectors"))
    assert str(ours) == str(theirs)
    assert (ours["step"], ours["skipped_steps"]) == (5, 1)


def test_a_loaded_state_is_not_shared():
    original, other = lane(), lane()
    take(original, 1.0, gradient(0))
    state = original.state_dict()
    kept = str(state)
    other.load_state_dict(state)
    take(other, 2.0, gradient(1))
    other.read_losses()
    assert str(state) == kept == str(original.state_dict())
