"""What the pages name exists: files, tests, packages, make targets. MkDocs checks the links of the site."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from jobs import cli
from tests.support.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "tests/README.md",
    "cluster/deploy/README.md",
)
"""Pages outside the site."""


def text(name: str) -> str:
    return (ROOT / name).read_text()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    links = re.findall(r'(?:\]\(|src=")([^)\s"#]+)', text(page))
    local = [link for link in links if "://" not in link]
    missing = [link for link in local if not ((ROOT / page).parent / link).exists()]
    assert missing == []


def test_the_readme_is_short_and_its_picture_is_small() -> None:
    assert len(text("README.md").encode()) <= 12 * 1024
    assert (ROOT / "docs" / "assets" / "report.webp").stat().st_size <= 200 * 1024


def rows(page: str) -> list[list[str]]:
    """The cells of the rows of a page's tables, without their heads."""
    lines = [
        re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in text(page).splitlines() if line[:2] == "| "
    ]
    return [[cell.strip() for cell in cells] for cells in lines if cells[0].strip() != "claim"]


@pytest.mark.parametrize("cells", rows("docs/evidence.md"), ids=lambda cells: cells[0][:50])
def test_evidence_has_a_test_and_a_command(cells: list[str]) -> None:
    claim, tests, command = cells
    named = re.findall(r"`(tests/[^`]+)`", tests)
    assert claim and named
    for test in named:
        assert (ROOT / test).exists(), test
    for target in re.findall(r"`make ([a-z-]+)`", command):
        assert target in TARGETS
    assert "`make " in command


def packages(folder: str) -> list[str]:
    return sorted(init.parent.name for init in (ROOT / folder).glob("*/__init__.py"))


@pytest.mark.parametrize("folder", ["originality", "cluster", "jobs"])
def test_the_architecture_names_every_package(folder: str) -> None:
    page = text("docs/architecture.md")
    assert [name for name in packages(folder) if f"`{name}/`" not in page] == []


def test_the_drawn_arrows_are_the_contract() -> None:
    """Each layer of a contract stands on a separate line, in the contract's order."""
    drawn = text("docs/architecture.md").partition("## Allowed imports")[2].split("```")[1]
    roots = set(PROJECT["tool"]["importlinter"]["root_packages"])
    lines = [set(re.findall(r"[a-z_]+", line)) - roots for line in drawn.splitlines()]
    for contract in PROJECT["tool"]["importlinter"]["contracts"]:
        if contract.get("containers", [""])[0] not in ("originality", "cluster"):
            continue
        layers = [set(re.findall(r"[a-z_]+", layer)) for layer in contract["layers"]]
        places = [next((i for i, line in enumerate(lines) if layer == line), None) for layer in layers]
        assert None not in places, dict(zip(contract["layers"], places, strict=True))
        assert places == sorted(places)  # type: ignore[type-var]


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["project"]["version"]
    assert yaml.safe_load(text("CITATION.cff"))["version"] == version
    assert f"## {version}" in text("CHANGELOG.md")


def test_the_workflow_runs_what_ci_runs_on_each_python() -> None:
    job = yaml.safe_load(text(".github/workflows/test.yml"))["jobs"]["test"]
    classifiers = PROJECT["project"]["classifiers"]
    supported = {c.rpartition(" ")[2] for c in classifiers if re.search(r"3\.\d+$", c)}
    assert set(job["strategy"]["matrix"]["python"]) == supported
    assert any(step.get("run") == ".ci/run" for step in job["steps"])


@pytest.mark.parametrize(
    "file",
    [".pre-commit-config.yaml", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob(".github/**/*.yml"))],
)
def test_a_configuration_parses(file: str) -> None:
    assert isinstance(yaml.safe_load(text(file)), dict)


@pytest.mark.parametrize("preset", ["paper", "fast"])
def test_the_cost_of_an_image_is_what_the_command_prints(
    preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["estimate", "--predict", "--preset", preset]) == 0
    found = re.search(r"([\d.]+) PFLOP", capsys.readouterr().out)
    assert found
    amount = float(found[1])
    shown = f"{amount:.0f}" if amount > 100 else f"{amount:.1f}"
    for page in ("README.md", "docs/guide/cost.md"):
        assert f"{shown} PFLOP" in text(page)


def test_make_check_builds_the_site() -> None:
    assert re.search(r"^check:.*\n(\t.*\n)*\t.*docs-site", text("Makefile"), re.MULTILINE)


def test_every_requirement_is_pinned() -> None:
    pinned = {
        normal(line.partition("==")[0]) for line in text("constraints.txt").splitlines() if "==" in line
    }
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(name for extra in extras.values() for name in extra)]
    names = {normal(re.split(r"[\[<>=!~ ]", requirement)[0]) for requirement in wanted}
    own = normal(PROJECT["project"]["name"])  # an extra may ask for another one
    assert names - pinned - {own} == set()


def normal(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_pages_are_in_the_navigation() -> None:
    """MkDocs warns of a page that is not; here it fails without a build."""
    listed = set(re.findall(r"[\w/-]+\.md", text("mkdocs.yml").partition("\nnav:")[2]))
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages - listed if Path(page).name != "notes.md"} == set()
