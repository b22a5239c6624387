from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from originality.contract.config import SettingsError
from originality.contract.settings_files import read_yaml
from originality.settings.audit import AuditSettings, DomainMissing
from originality.settings.domains import DOMAINS, described
from originality.settings.presets import PRESETS, load_settings

HOUSES = {"domain": "houses"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_has_its_own_digest(name):
    settings = load_settings(name, flags=HOUSES)
    others = [load_settings(other, flags=HOUSES).digest() for other in PRESETS if other != name]
    assert settings.digest() not in others


def test_paper_preset_is_the_published_protocol():
    paper = load_settings("paper", flags=HOUSES)
    assert (paper.inversion.steps, paper.inversion.batch_size) == (2000, 20)
    assert paper.inversion.learning_rate == 5e-4
    assert (paper.redraw.count, paper.redraw.steps) == (20, 35)
    assert paper.redraw.prompt == "a photo of {}"
    assert paper.max_tokens == 5
    assert load_settings("paper-shapes").redraw.steps == 50


def test_flags_override_the_file_and_the_file_overrides_the_preset(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("preset: paper-shapes\nmax_tokens: 3\ninversion: {steps: 7}\n")
    settings = load_settings(None, file, {"max_tokens": 2})
    assert (settings.max_tokens, settings.inversion.steps, settings.redraw.steps) == (2, 7, 50)
    assert load_settings("laptop", file).redraw.steps == load_settings("laptop").redraw.steps


def test_a_later_file_overrides_an_earlier_one_key_by_key(tmp_path):
    own, other = tmp_path / "own.yaml", tmp_path / "other.yaml"
    own.write_text(
        "preset: paper-shapes\nmax_tokens: 3\ndistance: {threshold: 0.2}\ncluster: {max_workers: 2}\n"
    )
    other.write_text("distance: {metric: elements, threshold: 0.1}\ninversion: {steps: 7}\n")
    settings = load_settings(None, [own, other], {"inversion": {"batch_size": 3}})
    assert (settings.max_tokens, settings.redraw.steps) == (3, 50)
    assert (settings.distance.threshold, settings.inversion.steps, settings.inversion.batch_size) == (
        0.1,
        7,
        3,
    )
    assert load_settings(None, [other, own]).distance.threshold == 0.2
    assert load_settings(None, []).digest() == load_settings().digest()
    other.write_text("preset: laptop\n")
    assert load_settings(None, [own, other]).redraw.steps == load_settings("laptop").redraw.steps


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("max_token: 3", "unknown setting 'max_token'; did you mean 'max_tokens'?"),
        ("inversion: {step: 3}", "unknown setting 'inversion.step'; did you mean 'steps'?"),
        ("max_tokens: 0", "'max_tokens': Input should be greater than or equal to 1 (given: 0)"),
        ("inversion: {batch_size: 0}", "'inversion.batch_size'"),
        ("domain: hoses", "did you mean 'houses'?"),
        ('domain: "\\ud83d\\ude00"', "half of a character"),
        ("domains: {mine: {initial_wrd: x}}", "'domains.mine.initial_wrd'; did you mean 'initial_words'?"),
        ("domains: {mine: {templates: object}}", "'domains.mine.initial_words'"),
        ("calibration: {metrik: x}", "unknown setting 'calibration.metrik'; did you mean 'metric'?"),
        ("preset: papr", "did you mean 'paper'?"),
        ("- a list", "key: value"),
        ("a: [", "not valid YAML at line"),
        ("distance: {metric: lpips}", "'distance.metric'"),
        ("distance: {threshold: .inf}", "'distance.threshold': Input should be a finite number"),
        ("distance: {metric: imagenet}", "distance.metric 'imagenet'"),
        ("distance: {metric: dreamsim}", "in_distribution.check"),
    ],
)
def test_invalid_files_are_reported_in_one_line(tmp_path, text, output):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(None, file)
    assert output in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="cannot read"):
        load_settings(None, tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="not a text file"):
        load_settings(None, tmp_path / "binary.yaml")


def test_each_metric_has_its_default_threshold():
    check = {"check": "editability"}
    flags = {**HOUSES, "distance": {"metric": "dreamsim"}, "in_distribution": check}
    assert load_settings("laptop").distance.threshold == 0.3
    assert load_settings("laptop", None, flags).distance.threshold == 0.45
    given = {**HOUSES, "distance": {"metric": "imagenet", "threshold": 0.2}, "in_distribution": check}
    assert load_settings("laptop", None, given).distance.threshold == 0.2


def test_a_missing_domain_is_an_error(tmp_path):
    """It may be left out only where the metric reads nothing but the world of shapes."""
    photos = {"distance": {"metric": "imagenet", "threshold": 0.2}, "in_distribution": {"check": "none"}}
    own = {"model": {"path": "m"}}
    for preset, flags in [("paper", {}), ("fast", {}), ("paper", own), ("laptop", photos)]:
        with pytest.raises(DomainMissing) as caught:
            load_settings(preset, None, flags)
        assert "\n" not in str(caught.value)
        assert all(described(domain) in str(caught.value) for domain in DOMAINS.values())
        assert (
            load_settings(preset, None, {**flags, "domain": "people"}).selected_domain.initial_word
            == "person"
        )
    with pytest.raises(ValidationError, match="no domain is set"):
        AuditSettings()
    file = tmp_path / "own.yaml"
    file.write_text("domain: ships\ndomains: {ships: {initial_word: ship}}\n")
    assert load_settings("paper", file).selected_domain.initial_word == "ship"
    for preset in ("laptop", "paper-shapes", "fast-shapes"):
        assert load_settings(preset).domain == "shapes"
    assert described(DOMAINS["artwork"]) == "artwork (painting, templates of art)"


def test_settings_of_an_earlier_run_are_read_unchanged():
    paper = load_settings("paper", flags=HOUSES)
    assert AuditSettings.model_validate(paper.model_dump(mode="json")) == paper
    assert paper.digest() == "93c3145caa93f122"  # recorded when the preset itself said houses


def test_settings_are_frozen_and_every_change_changes_the_digest():
    settings = AuditSettings(domain="houses")
    with pytest.raises(ValidationError):
        settings.max_tokens = 3  # type: ignore[misc]
    assert load_settings(flags={"seed": 1}).digest() != load_settings().digest()
    assert load_settings().digest() == load_settings().digest()


def test_a_settings_file_that_is_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    """Its text could be read only once, and is needed twice."""
    os.mkfifo(tmp_path / "mine.yaml")
    with pytest.raises(SettingsError, match="pipe, socket or device"):
        read_yaml(tmp_path / "mine.yaml")
