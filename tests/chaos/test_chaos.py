"""Four of the chaos schedules; ``make chaos`` plays all hundred."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.stage import OTHER_FAULTS, PROXY_FAULTS, Stage, schedule

pytestmark = pytest.mark.long

SOME = (0, 40, 77, 81)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("chaos")) as ready:
        yield ready


def test_some_hold_every_trouble() -> None:
    assert {event.what for seed in SOME for event in schedule(seed)} == {*OTHER_FAULTS, *PROXY_FAULTS}


@pytest.mark.parametrize("seed", SOME)
def test_each_verdict_once_and_as_undisturbed(stage: Stage, seed: int) -> None:
    played = stage.play(seed)
    log = (stage.folder / f"job-{seed}.log").read_text(errors="replace")
    assert played.wrong == [], f"{played}\n{log[-4000:]}"
