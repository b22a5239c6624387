"""Random samples that are frozen in a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.inputs.manifest import Selection
from cluster.run.folder import RunFolder, plan
from cluster.run.samples import SamplePlan, freeze, sample_plans
from cluster.storage.store import open_store

SIMPLE = SamplePlan(2, 3, seed=5)
NEYMAN = SamplePlan(3, 3, 5, "artist", "neyman", (("Arp", 0.25), ("Klee", 3.0)))


@pytest.fixture
def run(pictures: Path, tmp_path: Path) -> RunFolder:
    return plan(str(pictures), open_store(str(tmp_path / "run")), {"model": "abc"})


def test_a_sample_is_kept_once_and_read_back(run: RunFolder) -> None:
    assert sample_plans(run) == []
    assert freeze(run, SIMPLE) == freeze(run, SIMPLE) == SIMPLE
    assert freeze(run, NEYMAN) == NEYMAN
    assert sample_plans(run) == [SIMPLE, NEYMAN]
    paths = sorted(found.path for found in run.store.list("samples"))
    assert paths == ["samples/000001.json", "samples/000002.json"]


def test_a_resume_keeps_the_weights(run: RunFolder) -> None:
    """They follow from what is judged, and a resumed run has more of it."""
    freeze(run, NEYMAN)
    later = SamplePlan(3, 3, 5, "artist", "neyman", (("Arp", 9.0), ("Klee", 1.0)))
    assert freeze(run, later) == NEYMAN
    larger = SamplePlan(4, 3, 5, "artist", "neyman", (("Arp", 9.0), ("Klee", 1.0)))
    assert freeze(run, larger) == larger


def test_a_damaged_sample_is_named_and_replaced(run: RunFolder) -> None:
    freeze(run, SIMPLE)
    run.store.write("samples/000001.json", b'{"size": 2}')
    assert sample_plans(run) == [] and run.damage.paths == ["samples/000001.json"]
    assert freeze(run, SIMPLE) == SIMPLE
    assert sample_plans(run) == [SIMPLE]


def test_a_withdrawn_run_has_no_sample(run: RunFolder) -> None:
    freeze(run, SIMPLE)
    run.withdraw()
    assert list(run.store.list()) == []


def test_it_says_what_it_is_a_sample_of() -> None:
    assert "2 of 3 inputs" in SIMPLE.text
    assert "artist" in NEYMAN.text and "neyman" in NEYMAN.text


def test_a_sample_larger_than_the_collection_is_all_of_it() -> None:
    found = SamplePlan.of(Selection(sample=99, seed=1, allocation="equal"), 3)
    assert (found.size, found.allocation) == (3, "proportional")
