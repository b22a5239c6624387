"""A dozen of the chaos schedules, with every kind of trouble; ``make chaos`` plays all hundred."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.chaos.play import play
from tests.chaos.schedule import DOZEN, KINDS, schedule
from tests.chaos.stage import Stage

pytestmark = pytest.mark.long

SOME = range(DOZEN)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("chaos")) as ready:
        yield ready


def test_every_dozen_holds_each_trouble() -> None:
    for first in range(0, 96, DOZEN):
        dealt = Counter(kind for seed in range(first, first + DOZEN) for kind in schedule(seed).kinds)
        assert dealt == Counter(KINDS)


@pytest.mark.parametrize("seed", SOME)
def test_each_verdict_is_written_once_and_equals_that_of_an_undisturbed_run(stage: Stage, seed: int) -> None:
    played = play(stage, schedule(seed))
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in stage.logs(f"seed-{seed}-"))
    assert played.wrong == [], f"{played}\n{logs}"
