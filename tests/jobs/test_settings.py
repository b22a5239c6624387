"""``originality settings``: lines for a pipe, a table for a terminal, and the schema for editors."""

from __future__ import annotations

import json
import sys
from typing import Any

import jsonschema
import pytest
import yaml

from jobs import cli
from jobs.settings import rows, schema
from originality.settings.audit import AuditSettings
from originality.settings.presets import PRESETS, load_settings
from originality.settings.roles import knobs


def lines_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, str]]:
    """What the command prints to a pipe, by column."""
    assert cli.main(["settings", *arguments]) == 0
    head, *lines = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_a_pipe_gets_one_line_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    listed = {line["setting"]: line for line in lines_of(capsys)}
    steps = listed["inversion.steps"]
    assert (steps["default"], steps["unit"], steps["decides"]) == ("2000", "steps", "method, cost")
    assert "paper" in steps["source"] and steps["description"]
    assert listed["cluster.snapshot_every"]["unit"] == "seconds"
    assert listed["calibration"]["decides"] == "nothing"
    assert "rejected inputs" in listed["cluster.max_pixels"]["decides"]
    assert all(line["decides"] and line["source"] and line["description"] for line in listed.values())


@pytest.mark.parametrize("preset", PRESETS)
def test_a_presets_values_stand_beside_the_defaults(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed = {line["setting"]: line for line in lines_of(capsys, "--preset", preset)}
    known = load_settings(preset, flags={"domain": "houses"})
    assert listed["inversion.steps"][preset] == str(known.inversion.steps)
    assert listed["redraw.scheduler"][preset] == known.redraw.scheduler
    assert listed["cluster.max_pixels"][preset] == ""
    assert ("must be given" in listed["domain"][preset]) == (known.distance.metric != "elements")


def test_values_are_written_as_set_takes_them() -> None:
    defaults = {knob.path: knob.default for knob in knobs(AuditSettings)}
    written = {row.path: yaml.safe_load(row.default) for row in rows()}
    assert {path: written[path] for path in defaults} == defaults


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.main(["settings", "--preset", "fast"]) == 0
    shown = capsys.readouterr().out
    assert "\t" not in shown
    assert "inversion.steps" in shown and "fast: 320" in shown
    assert max(map(len, shown.splitlines())) <= 200


def test_an_unknown_preset_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["settings", "--preset", "papr"]) == 2
    assert "'paper'" in capsys.readouterr().err


def test_the_schema_accepts_what_a_settings_file_may_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["settings", "--json-schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == schema()
    jsonschema.Draft202012Validator.check_schema(printed)
    own = {"boats": {"initial_word": "boat", "templates": "art"}}
    engine = {"deadline": "8h", "labels": {"zone": "a"}, "prices": {"L4": 0.8}}
    for values in (
        *PRESETS.values(),
        {"preset": "fast", "domain": "boats", "domains": own, "cluster": engine},
    ):
        jsonschema.validate(values, printed)


@pytest.mark.parametrize(
    "values",
    [
        {"max_token": 3},
        {"inversion": {"steps": 0}},
        {"redraw": {"scheduler": "pndn"}},
        {"preset": "papr"},
        {"cluster": {"workers": 3}},
        {"domains": {"boats": {"initial_word": 3}}},
    ],
)
def test_the_schema_finds_mistakes(values: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema())


def test_descriptions_are_the_docstrings() -> None:
    assert "Optimiser steps" in schema()["$defs"]["InversionSettings"]["properties"]["steps"]["description"]
