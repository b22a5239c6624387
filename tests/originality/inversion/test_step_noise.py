"""Noise of a step, its learning rate, and the step at which a lane stops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from originality.inversion.inverter import Inverter, invert, learning_rate
from originality.inversion.settled import settled
from originality.inversion.step_noise import StepNoiseSource
from originality.model.diffusion import Moments
from originality.settings.audit import AuditSettings
from originality.settings.domains import DOMAINS
from originality.settings.inversion import InversionSettings

MOMENTS = Moments(torch.zeros(2, 3, 3), torch.ones(2, 3, 3))
SHAPES = DOMAINS["shapes"]


def noise(**given_settings) -> StepNoiseSource:
    settings = InversionSettings(**{"batch_size": 6, "steps": 100, **given_settings})
    return StepNoiseSource(settings, 0, 1000, 27)


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


@given(st.integers(1, 5), st.integers(0, 99), st.sampled_from((None, 1, 7)))
def test_step_noise_depends_only_on_seed_image_tokens_and_step(tokens, step, cycle):
    own = noise(cycle=cycle).of("a", MOMENTS, tokens, step)
    assert same(own, noise(cycle=cycle).of("a", MOMENTS, tokens, step))
    assert not same(own, noise(cycle=cycle).of("b", MOMENTS, tokens, step))
    assert not same(own, noise(cycle=cycle).of("a", MOMENTS, tokens + 1, step))
    if cycle:
        assert same(own, noise(cycle=cycle).of("a", MOMENTS, tokens, step + cycle))
    if cycle != 1:
        assert not same(own, noise(cycle=cycle).of("a", MOMENTS, tokens, step + 1))


@given(st.integers(0, 99))
def test_no_template_is_encoded_twice(step):
    own = noise(batch_size=20).of("a", MOMENTS, 1, step)
    assert len(own.templates) == len(own.templates.unique()) < 20
    assert own.template_of.unique().tolist() == list(range(len(own.templates)))
    few = noise(templates=4).of("a", MOMENTS, 1, step)
    assert len(few.templates.unique()) == 4
    assert few.template_of.tolist() == [0, 1, 2, 3, 0, 1]
    assert len(noise(templates=99, batch_size=40).of("a", MOMENTS, 1, step).templates) == 27


def test_the_learning_rate_is_constant_and_then_cools_down():
    settings = InversionSettings(steps=10, learning_rate=1.0, cooldown=4)
    rates = [learning_rate(settings, step, 10) for step in range(10)]
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    paper = InversionSettings()
    assert {learning_rate(paper, step, 2000) for step in (0, 1, 1000, 1999)} == {5e-4}


@pytest.mark.parametrize(
    ("wrong", "output"),
    [
        ({"steps": 5, "cooldown": 6}, "cooldown 6 is more than inversion.steps 5"),
        ({"stop": "settled"}, "set inversion.cycle"),
        ({"stop": "settled", "cycle": 1}, "set inversion.cycle"),
    ],
)
def test_inconsistent_settings_are_refused(wrong, output):
    with pytest.raises(ValueError, match=output):
        AuditSettings.model_validate({"inversion": wrong})


def inverter(model, **given_settings) -> Inverter:
    settings = {
        "steps": 6,
        "batch_size": 2,
        "learning_rate": 1e-2,
        "timesteps": "stratified",
        **given_settings,
    }
    return Inverter(model, SHAPES, InversionSettings(**settings), 0)


@pytest.fixture(scope="module")
def image(model):
    from originality.shapes.image_sets import TaughtSet

    return model.encode(model.fit(TaughtSet().scene(2, 1).image()))


def test_a_lane_stops_after_the_first_complete_cycle_that_has_settled(model, image):
    """The same steps as without stopping, up to the one taken before the last loss was read."""
    cycles = {"steps": 40, "cycle": 2}
    (whole,) = invert(inverter(model, **cycles), [("a", image, 1)])
    (stopped,) = invert(inverter(model, **cycles, stop="settled"), [("a", image, 1)])
    at = [k for k in range(6, 40, 2) if settled(whole.losses[:k], 2, 0.05)]
    assert 10 < stopped.step == at[0] + 1 < 40
    assert stopped.losses[: at[0]] == whole.losses[: at[0]]
    (cooled,) = invert(inverter(model, **cycles, stop="settled", cooldown=5), [("a", image, 1)])
    assert cooled.step == at[0] + 5
    assert cooled.losses[: at[0]] == whole.losses[: at[0]]


def test_no_layer_before_the_first_cross_attention_has_a_gradient(model, image):
    seen: dict[str, bool] = {}
    parts = {
        "before": model.unet.conv_in,
        "first": model.unet.down_blocks[0].resnets[0],
        "after": model.unet.down_blocks[0].attentions[0],
    }

    def watch(name):
        def hook(_part, _given, out):
            seen[name] = (out if isinstance(out, torch.Tensor) else out[0]).requires_grad

        return hook

    hooks = [part.register_forward_hook(watch(name)) for name, part in parts.items()]
    ours = inverter(model)
    ours.advance([ours.open("a", image, 1)])
    for hook in hooks:
        hook.remove()
    assert seen == {"before": False, "first": False, "after": True}
