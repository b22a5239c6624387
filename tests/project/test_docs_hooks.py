"""Links of the documentation site that lead into the repository, and the help of every command."""

from __future__ import annotations

import importlib.util
from types import ModuleType, SimpleNamespace

import pytest

from jobs import cli, synthetic
from tests.support.places import ROOT

CONFIG = SimpleNamespace(docs_dir=str(ROOT / "docs"), repo_url="https://example.org/repository")


def script(name: str) -> ModuleType:
    """A file of scripts/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_site(markdown: str, page: str = "guide/audit.md") -> str:
    file = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    return str(script("docs_hooks").on_page_markdown(markdown, page=file, config=CONFIG))


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("cost.md#section", "cost.md#section"),
        ("../bench", "../bench/README.md"),
        ("https://arxiv.org/abs/2408.08184", "https://arxiv.org/abs/2408.08184"),
        ("../../jobs/audit.py", "https://example.org/repository/blob/main/jobs/audit.py"),
        ("../../cluster/deploy", "https://example.org/repository/tree/main/cluster/deploy"),
        ("../paper/results", "https://example.org/repository/tree/main/docs/paper/results"),
    ],
)
def test_a_link(link: str, expected: str) -> None:
    assert on_site(f"see [it]({link}).") == f"see [it]({expected})."


def test_a_link_to_a_file_that_does_not_exist_fails_the_build() -> None:
    with pytest.raises(Exception, match=r"no_such\.py"):
        on_site("[it](../../jobs/no_such.py)")


def test_a_block_of_code_has_no_links() -> None:
    block = "```python\nrows[0](no_such.py)\n```"
    assert on_site(block) == block


def test_every_command_has_its_help() -> None:
    commands = script("command_help").commands()
    assert {words[0] for words in commands} == {name for name, _, _ in cli.JOBS}
    assert {words[1] for words in commands if words[0] == "synthetic"} == {n for n, _, _ in synthetic.JOBS}
    assert "--dry-run" in script("command_help").help_of("audit")
