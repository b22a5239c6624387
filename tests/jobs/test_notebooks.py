"""The example notebooks, executed cell by cell in a real kernel, at settings that take seconds."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from jobs.cli import main
from tests.support.places import EXAMPLES, ROOT, python_path
from tests.support.short_audits import SHORT
from tests.support.waiting import PATIENCE

QUICK = {
    "model": {"device": "cpu"},
    "max_tokens": 1,
    "inversion": {"steps": 2, "batch_size": 2},
    "redraw": {"count": 2, "steps": 2},
}

pytestmark = pytest.mark.long


def executed(name: str, folder: Path, **parameters: object) -> nbformat.NotebookNode:
    """The notebook with other values in its cell of parameters, after its last cell."""
    notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", ())]
    assert all(f"{name} = " in cell.source for name in parameters)
    cell.source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    NotebookClient(notebook, timeout=int(PATIENCE), resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


@pytest.fixture(autouse=True)
def _kernels_find_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", python_path())


def test_images_are_judged(tmp_path: Path) -> None:
    notebook = executed("judge_images.ipynb", tmp_path, images=str(EXAMPLES), settings=QUICK)
    shown = [out for cell in notebook.cells for out in cell.get("outputs", ()) if "data" in out]
    assert sum("text/html" in out["data"] for out in shown) >= 3, "verdicts show themselves"


def test_a_run_is_read(tmp_path: Path, local_ray: None) -> None:
    (tmp_path / "in").mkdir()
    for name in ("familiar-1.png", "unseen-1.png"):
        (tmp_path / "in" / name).write_bytes((EXAMPLES / name).read_bytes())
    main(["audit", str(tmp_path / "in"), "--out", str(tmp_path / "run"), "--device", "cpu", *SHORT])
    notebook = executed("read_a_run.ipynb", tmp_path, run_folder=str(tmp_path / "run"))
    printed = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", ()))
    assert "familiar-1.png" in printed and "unseen-1.png" in printed
