"""Each module of more than 50 lines has a test file of its name, or a line in tests/README.md."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.places import ROOT

PACKAGES = ("originality", "cluster", "jobs")
LINES = 50
"""A module of at most so many lines needs no test file."""
PAGE = (ROOT / "tests" / "README.md").read_text().partition("## Modules")[2]
ROWS = dict(re.findall(r"^\| `([^`]+\.py)` \| (.+) \|$", PAGE, re.MULTILINE))


def mirrored(module: Path) -> Path:
    """The test file of a module's name; of a package, the one beside its folder of tests."""
    if module.stem == "__init__":
        return Path("tests") / module.parent.parent / f"test_{module.parent.name}.py"
    return Path("tests") / module.parent / f"test_{module.stem}.py"


def modules() -> list[Path]:
    """Modules that need a test file, relative to the checkout."""
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    return sorted(f.relative_to(ROOT) for f in files if len(f.read_text().splitlines()) > LINES)


def test_each_module_is_tested_somewhere() -> None:
    without = [module for module in modules() if not (ROOT / mirrored(module)).is_file()]
    missing = [str(module) for module in without if str(module) not in ROWS]
    assert missing == [], "add a test file of the module's name, or a row to tests/README.md"


def test_each_row_names_a_module_and_its_tests() -> None:
    for module, cell in ROWS.items():
        assert (ROOT / module).is_file(), f"tests/README.md names {module}"
        tests = re.findall(r"`([^`]+)`", cell)
        assert tests, f"tests/README.md says nothing of {module}"
        for test in tests:
            assert (ROOT / test).is_file(), f"tests/README.md names {test} for {module}"
