"""Tests reach a private member of other objects only where a comment of the file says why."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.places import ROOT

MARK = "# Private:"
PUBLIC = {"_asdict", "_exit", "_fields", "_replace", "_repr_html_"}
"""Documented for everybody's use: os._exit, three members of named tuples, and IPython's hook for HTML."""


def is_private(name: str) -> bool:
    return bool(re.fullmatch(r"_(?!_)\w+", name)) and name not in PUBLIC


def reached(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each private member that a module reaches: as an attribute (x._y) of anything but self
    and cls, by an import (from x import _y, import x._y), or as a string (setattr(x, "_y", ...))."""
    for node in ast.walk(tree):
        names = []
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name):
                names = [name]
            case ast.ImportFrom(module=module, names=imported):
                names = [*(module or "").split("."), *(alias.name for alias in imported)]
            case ast.Import(names=imported):
                names = [part for alias in imported for part in alias.name.split(".")]
            case ast.Call(func=ast.Name(id=function) | ast.Attribute(attr=function), args=given) if (
                function in ("getattr", "setattr", "delattr", "hasattr", "patch")
            ):
                texts = [arg.value for arg in given[:2] if isinstance(arg, ast.Constant)]
                names = [text.rpartition(".")[2] for text in texts if isinstance(text, str)]
        yield from ((node.lineno, name) for name in names if is_private(name))  # type: ignore[attr-defined]


def explained(source: str) -> set[str]:
    """Names in the comments that start with MARK and give a reason; such a comment may have several lines."""
    blocks: list[list[tuple[int, str]]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, text = token.start[0], token.string
            if text.startswith(MARK):
                blocks.append([(row, text)])
            elif blocks and blocks[-1][-1][0] == row - 1 and token.line.lstrip().startswith("#"):
                blocks[-1].append((row, text))
    texts = [" ".join(text for _, text in block) for block in blocks]
    return {name for text in texts if "because" in text for name in re.findall(r"(?<!\w)_\w+", text)}


def breaches(folder: Path) -> list[str]:
    """A line for each private member that is reached without a comment, and for each comment of none."""
    found = []
    for file in sorted(folder.rglob("*.py")):
        source, where = file.read_text(), file.relative_to(folder.parent)
        known, uses = explained(source), list(reached(ast.parse(source)))
        idle = known - {name for _, name in uses}
        found += [f"{where}:{line} reaches {name}" for line, name in uses if name not in known]
        found += [f"{where} explains {name}, and does not reach it" for name in sorted(idle)]
    return found


def test_private_members_are_reached_only_where_a_comment_says_why() -> None:
    assert breaches(ROOT / "tests") == [], f"use a public call, or add '{MARK} Class._name, because ...'"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("ledger._view()", "_view"),
        ("Ledger(store)._view", "_view"),
        ("from cluster.run.ledger import Ledger, _view", "_view"),
        ("from ray._private.worker import Worker", "_private"),
        ("monkeypatch.setattr(Ledger, '_view', None)", "_view"),
        ("monkeypatch.setattr('cluster.run.ledger._VIEW', 4)", "_VIEW"),
    ],
)
@pytest.mark.parametrize(
    "comment", ["", "# Private: Ledger.view, because", "# Private: Ledger._other, because"]
)
def test_a_private_member_without_a_comment_would_be_found(
    tmp_path: Path, line: str, name: str, comment: str
) -> None:
    (tmp_path / "test_x.py").write_text(f"import os\n{comment}\n{line}\n")
    assert f"{tmp_path.name}/test_x.py:3 reaches {name}" in breaches(tmp_path)


def test_a_comment_without_a_reason_or_without_a_use_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text("# Private: Ledger._view.\nledger._view()\n")
    assert breaches(tmp_path) == [f"{tmp_path.name}/test_x.py:2 reaches _view"]
    (tmp_path / "test_x.py").write_text("# Private: Ledger._view, because.\n")
    assert breaches(tmp_path) == [f"{tmp_path.name}/test_x.py explains _view, and does not reach it"]


def test_what_a_comment_explains_may_be_reached(tmp_path: Path) -> None:
    source = "# Private: Ledger._view,\n# because no public call holds one.\nledger._view()\n"
    (tmp_path / "test_x.py").write_text(source + "self._x\nos._exit(0)\n")
    assert breaches(tmp_path) == []
