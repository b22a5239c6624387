"""Every error class that the code can record has advice in the report, and no other error class has."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from originality.evaluation.rejudge import NEEDS_SWEEP
from originality.report import phrases
from tests.support.places import ROOT

CODE_AT = {"Rejection": 0, "Unreadable": 0, "_error": 1, "fail": 2}
"""Position of the error class among the arguments of the calls that end an image without a verdict."""

FOREIGN = {"OutOfMemoryError"}
"""Names of exceptions of other libraries that are frequent enough to have advice: torch's."""


def constants(node: ast.AST) -> set[str]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def assigned(scope: ast.AST, name: str) -> set[str]:
    """String constants that a variable of a function may hold."""
    return {
        text
        for node in ast.walk(scope)
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
        for text in constants(node.value)
    }


def codes(tree: ast.AST, scope: ast.AST) -> Iterator[str]:
    """Error classes in the source: as arguments, or in a record."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in CODE_AT and len(node.args) > CODE_AT[name]:
                given = node.args[CODE_AT[name]]
                yield from assigned(scope, given.id) if isinstance(given, ast.Name) else literal(given)
            for keyword in node.keywords:
                if keyword.arg == "error_class":
                    yield from literal(keyword.value)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "error_class":
                    yield from literal(value)
        yield from codes(node, node if isinstance(node, ast.FunctionDef) else scope)


def literal(node: ast.expr) -> set[str]:
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def in_source() -> set[str]:
    files = [*ROOT.glob("cluster/**/*.py"), ROOT / "originality" / "evaluation" / "verdict.py"]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    return {code for tree in trees for code in codes(tree, tree)} | {NEEDS_SWEEP}


def test_every_error_class_in_the_source_has_advice_and_no_other_has() -> None:
    assert in_source() == set(phrases.ADVICE) - FOREIGN


@pytest.mark.parametrize(
    "source",
    [
        "raise Rejection('new', 'x')",
        "raise Unreadable('new', 'x') from error",
        "def f(gone):\n  why = 'new' if gone else 'missing'\n  raise Unreadable(why, 'x')",
        "self._desk.fail(lease, image_id, 'new', 'x', status='rejected')",
        "record = {'status': 'failed', 'error_class': 'new'}",
        "Verdict(image_id='i', error_class='new')",
    ],
)
def test_a_new_error_class_would_be_found(source: str) -> None:
    assert "new" in set(codes(ast.parse(source), ast.parse(source)))


def test_final_error_classes_have_advice() -> None:
    assert set(phrases.ADVICE) >= phrases.FINAL
