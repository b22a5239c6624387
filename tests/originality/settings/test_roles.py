"""Roles of settings, and the lists and digests that follow from them."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import BaseModel

from cluster.settings import ClusterSettings
from originality.calibration.thresholds import method_digest
from originality.settings.audit import AuditSettings, later_defaults
from originality.settings.domains import Domain
from originality.settings.presets import load_settings
from originality.settings.roles import Added, Decides, exhaustive, knobs, nested, paths

HOUSES = {"domain": "houses"}
OWN_DOMAIN = {
    "domain": "boats",
    "domains": {"boats": {"initial_word": "boat", "templates": "art", "edit_subject": "dog"}},
}
AS_HF = {
    **HOUSES,
    "model": {"fit": "stretch", "device": "cuda", "dtype": "bf16", "vae_dtype": "fp32", "tf32": True},
    "inversion": {
        "learning_rate_scale": "batch",
        "weight_decay": 0.01,
        "flips": "half",
        "initial_tokens": "mean",
        "loss_scale": 1024.0,
    },
}
OTHER_THAN_DEFAULTS = {
    **HOUSES,
    "model": {
        "prediction": "v_prediction",
        "attention": "sliced",
        "gradient_checkpointing": "on",
        "channels_last": True,
        "compile": "default",
        "variant": "fp16",
    },
    "distance": {"branch": "dino_vitb16", "threshold": 0.4, "dtype": "fp16"},
    "in_distribution": {"detector": "clip", "folder": "/c", "detector_score": 0.4},
    "redraw": {"confidence": 0.9},
    "seed": 7,
    "max_tokens": 3,
}


@pytest.mark.parametrize(
    ("preset", "flags", "settings_digest", "of_method"),
    [
        ("paper", HOUSES, "93c3145caa93f122", "1ff862fe8d2cf443"),
        ("paper-shapes", {}, "075ef87f084a3406", "5d24c1e18341e1c5"),
        ("fast", HOUSES, "1aa1975e5b809687", "8b561a36f39b702c"),
        ("fast-shapes", {}, "f28ad33f1864737e", "a227749008d003f7"),
        ("laptop", {}, "34cbd5fedf014275", "e5981c191da8d4b3"),
        ("laptop", OWN_DOMAIN, "6595c407390899a7", "5e3b84c27b5bce89"),
        ("paper", AS_HF, "46ca353c2a7d0034", "d6cb993491724277"),
        ("fast", OTHER_THAN_DEFAULTS, "b57e7aedc6248026", "16264d4690c9eeb8"),
    ],
)
def test_digests_are_those_recorded_before_settings_had_roles(preset, flags, settings_digest, of_method):
    """A change here means that runs made before cannot be resumed, or calibrations no longer apply. The usual
    cause is a new setting without ``Added.AFTER_CALIBRATIONS``."""
    settings = load_settings(preset, None, flags)
    assert settings.digest() == settings_digest
    assert method_digest(settings) == of_method


@pytest.mark.parametrize("kind", [AuditSettings, Domain])
def test_every_setting_has_a_role(kind):
    assert [knob.path for knob in knobs(kind) if knob.decides is None] == []


def test_a_part_without_roles_is_found():
    class Part(BaseModel):
        known: Annotated[int, Decides.COST] = 1
        forgotten: int = 2

    class Settings(BaseModel):
        part: Part = Part()

    assert [(knob.path, knob.decides) for knob in knobs(Settings)] == [
        ("part.known", Decides.COST),
        ("part.forgotten", None),
    ]


def test_records_speed_and_machine_settings_have_no_other_role():
    for knob in knobs(AuditSettings):
        assert knob.decides is not None
        alone = knob.decides in (Decides.NOTHING, Decides.SPEED, Decides.MACHINE)
        assert alone or not knob.decides & (Decides.SPEED | Decides.MACHINE), knob.path


def test_settings_that_decide_the_amount_of_work():
    assert set(paths(AuditSettings, Decides.COST)) == {
        "max_tokens",
        *(f"inversion.{name}" for name in ("steps", "batch_size", "timesteps", "templates", "cycle")),
        *(f"inversion.{name}" for name in ("cooldown", "stop", "tolerance")),
        *(f"redraw.{name}" for name in ("count", "round", "confidence", "confirm", "most", "reference")),
        "in_distribution.ask",
    }


def test_values_with_which_everything_is_measured_are_valid():
    everything = exhaustive(AuditSettings)
    assert set(everything) == {
        *("redraw.round", "redraw.confirm", "redraw.together", "distance.threshold", "in_distribution.ask"),
    }
    settings = load_settings("fast", None, {**HOUSES, **nested(everything.items())})
    assert settings.redraw.round_size == settings.redraw.count


def test_defaults_of_later_settings_are_those_of_the_settings():
    later = later_defaults()
    assert later["domains"] == {} and later["inversion"]["flips"] == "never"
    assert "steps" not in later["inversion"] and "max_tokens" not in later
    added = [knob for knob in knobs(AuditSettings) if knob.added is Added.AFTER_CALIBRATIONS]
    assert all(knob.path.startswith(("inversion.", "redraw.")) for knob in added)


@pytest.mark.parametrize("kind", [AuditSettings, ClusterSettings])
def test_every_setting_states_its_source_and_each_number_its_unit(kind):
    """The docstring is the description in the reference, the JSON schema and ``originality settings``."""
    for knob in knobs(kind):
        assert knob.description and knob.source, knob.path
        is_number = type(knob.default) in (int, float)
        assert not is_number or knob.unit, knob.path
