"""Every command of README and docs is one that the parsers accept, and is run by a test or marked.

A mark says what the command needs and no test has: a GPU, a cluster, hours, a network.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
from pathlib import Path

import pytest

from jobs import cli
from jobs.commandline import exits
from jobs.commandline.options import cluster_settings_of, settings_of
from tests.support.doc_commands import Command, commands
from tests.support.places import ROOT

CLUSTER = "needs a cluster or an account"
GPU = "needs a GPU"
HOURS = "takes hours; the same code runs in small in the suite"
NETWORK = "needs a hub or a registry"
SETUP = "sets up or runs the suite itself"
MARKS = {CLUSTER, GPU, HOURS, NETWORK, SETUP}

SHOWN: tuple[tuple[str, str], ...] = (
    # A pattern of the command, and the test file that runs it, or a mark. The first that fits counts.
    (r"^(ray|kubectl|docker|aws) |^RAY_ADDRESS=", CLUSTER),
    (r"--device cuda", GPU),
    (r"xformers|make gpu-check|nvidia-cuda|pytest .*-m gpu", GPU),
    (r"^(uv|pip|git|mkdir) |^make (test|test-long|check|install|browser|docs-site)$", SETUP),
    (r"models fetch CompVis/", NETWORK),
    (r"models fetch dreamsim", "tests/originality/evaluation/distance/test_dreamsim_fetch.py"),
    (r"models fetch ORG/NAME", "tests/cluster/weights/test_hub.py"),
    (r"^make audit$", "tests/project/test_makefile.py"),
    (r"audit .* --dry-run", "tests/jobs/test_cli.py"),
    (r"audit .*--config", "tests/jobs/test_calibrate.py"),
    (r"originality audit FOLDER", "tests/jobs/test_real.py"),
    (r"originality (export|status .*--by|report .*--by)", "tests/jobs/test_export.py"),
    (r"originality estimate-population", "tests/jobs/test_estimate_population.py"),
    (r"originality estimate .*--predict", "tests/jobs/test_predict.py"),
    (r"originality estimate", "tests/jobs/test_running.py"),
    (r"originality status", "tests/jobs/test_process.py"),
    (r"originality retry", "tests/jobs/test_running.py"),
    (r"originality rejudge", "tests/jobs/test_rejudge.py"),
    (r"originality report", "tests/jobs/test_report.py"),
    (r"originality doctor", "tests/jobs/test_doctor.py"),
    (r"originality calibrate", "tests/jobs/test_calibrate.py"),
    (r"originality explore", "tests/jobs/test_explore.py"),
    (r"originality settings", "tests/jobs/test_settings.py"),
    (r"originality tokens export", "tests/jobs/test_tokens.py"),
    (r"synthetic (render|train|detect)", "tests/jobs/test_synthetic.py"),
    (r"synthetic experiment", HOURS),
    (r"^tune|familiarity\.tuning|^more=", HOURS),
    (r"^make (train-shapes|train-detector|effect|bench|paper|docs-from-nothing)$", HOURS),
    (r"^make paper-page$", "tests/originality/experiments/report/test_page.py"),
    (r"^make docs$", "tests/originality/bench/test_report.py"),
    (r"-m pytest", SETUP),
    (r"tests\.full_size", "tests/full_size/test_full_size.py"),
    (r"element_detector\.train --measure", "tests/originality/shapes/test_detector.py"),
    (r"shapes_model\.card", "tests/originality/training/test_shipped_model.py"),
)

COMMANDS = commands()
PLACEHOLDERS = {"DOMAIN": "houses", "COMMIT": "0" * 40}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def name(command: Command) -> str:
    return f"{command.page}: {command.line[:60]}"


def parsed(job: list[str]) -> argparse.Namespace:
    """What the parser of ``originality`` makes of a command's arguments."""
    given = [PLACEHOLDERS.get(word, word) for word in job]
    parser = exits.Parser(prog="originality")
    exits.add_commands(parser, cli.JOBS, given)
    return parser.parse_args(given)


def jobs_of(command: Command) -> list[str] | None:
    """The arguments for ``originality`` that a command has, also as ``python -m jobs.NAME``; else None."""
    words = command.words
    if words[0] == "originality":
        return words[1:]
    module = next((word for word in words if word.startswith("jobs.")), None)
    if module is None:
        return None
    return [module.removeprefix("jobs."), *words[words.index(module) + 1 :]]


def test_there_are_commands_on_the_pages() -> None:
    assert {"README.md", "docs/guide/audit.md", "docs/guide/cluster.md"} <= {c.page for c in COMMANDS}


@pytest.mark.parametrize("command", [c for c in COMMANDS if jobs_of(c)], ids=name)
def test_flags_and_settings_are_known(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORIGINALITY_CACHE", str(tmp_path))
    job = jobs_of(command)
    assert job
    arguments = parsed(job)
    if hasattr(arguments, "preset") and hasattr(arguments, "config"):
        arguments.config = []  # a file of the reader's
        settings_of(arguments, any_domain=True)
        cluster_settings_of(arguments)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.words[0] == "make"], ids=name)
def test_a_target_of_make_exists(command: Command) -> None:
    assert set(command.words[1:]) <= TARGETS


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.words[0] == "python"], ids=name)
def test_a_module_and_the_files_exist(command: Command) -> None:
    words = command.words
    assert importlib.util.find_spec(words[words.index("-m") + 1])
    for word in words:
        if word.startswith("tests/"):
            assert (ROOT / word.partition("::")[0]).exists(), word


def shown_by(command: Command) -> str | None:
    return next((shown for pattern, shown in SHOWN if re.search(pattern, command.line)), None)


@pytest.mark.parametrize("command", COMMANDS, ids=name)
def test_each_is_run_by_a_test_or_marked(command: Command) -> None:
    shown = shown_by(command)
    assert shown is not None, "add the command to SHOWN: the test that runs it, or a mark"
    assert shown in MARKS or (ROOT / shown).is_file(), shown


def test_each_pattern_is_used() -> None:
    used = {
        next(pattern for pattern, _ in SHOWN if re.search(pattern, c.line)) for c in COMMANDS if shown_by(c)
    }
    assert {pattern for pattern, _ in SHOWN} == used
