"""docs/promises.md against the code: the tests, kinds of trouble and bounds that it names."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from typing import Any

import pytest

from cluster.settings import ClusterSettings
from tests.chaos.schedule import KINDS
from tests.support.places import ROOT

PAGE = (ROOT / "docs" / "promises.md").read_text()
NAMED = re.findall(r"`([^`]+)`", PAGE)
TESTS = sorted({name for name in NAMED if name.startswith("tests/") and "::" in name})
CHAOS = sorted({name.removeprefix("chaos: ") for name in NAMED if name.startswith("chaos: ")} - {"KIND"})


def rows() -> list[list[str]]:
    """The cells of every row of the page's tables, without their heads."""
    lines = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| ")]
    return [
        [cell.strip() for cell in cells] for cells in lines if cells[0].strip() not in ("promise", "bound")
    ]


BOUNDS = [cells for cells in rows() if len(cells) > 2]


@cache
def _tests_of(path: str) -> set[str]:
    """Functions, and the cases that hypothesis makes of a state machine."""
    body = ast.parse((ROOT / path).read_text()).body
    assigned = [node.targets[0] for node in body if isinstance(node, ast.Assign)]
    names = [target.id for target in assigned if isinstance(target, ast.Name)]
    return {*names, *(node.name for node in body if isinstance(node, ast.FunctionDef))}


@pytest.mark.parametrize("name", TESTS)
def test_a_test_that_is_named_is_there(name: str) -> None:
    path, _, test = name.partition("::")
    assert (ROOT / path).is_file(), path
    assert test in _tests_of(path)


def test_each_kind_of_trouble_is_one_of_the_schedules() -> None:
    assert CHAOS
    assert set(CHAOS) <= set(KINDS)


def test_each_promise_stands_beside_what_shows_it() -> None:
    assert len(rows()) > 30
    for cells in rows():
        assert re.search(r"`(tests/[^`]+::|chaos: )", cells[-1]), cells[0]


@pytest.mark.parametrize("cells", BOUNDS, ids=lambda cells: cells[0])
def test_a_bound_is_that_of_the_code(cells: list[str]) -> None:
    output = float(cells[1].removesuffix(" s"))
    assert output == default_of(re.findall(r"`([^`]+)`", cells[2])[-1])


def default_of(name: str) -> Any:
    """Of a setting ("cluster.step_limit") or a constant ("cluster/run/leases.py::MOST_DEATHS")."""
    module, _, constant = name.partition("::")
    if not constant:
        return ClusterSettings.model_fields[name.removeprefix("cluster.")].default
    return getattr(importlib.import_module(module.removesuffix(".py").replace("/", ".")), constant)
