"""A start ended by an outage: its clean-up waits for the store no longer than seconds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.driver import driver
from cluster.inputs.identities import image_id_of
from cluster.run.folder import RunFolder, open_run
from cluster.run.layout import DRIVERS
from cluster.settings import ClusterSettings
from cluster.storage.requests import HURRY_SECONDS
from cluster.storage.store import PATIENCE_SECONDS, Outage, Store, StoreError, hurried_after_outage
from jobs.auditing import audit_run
from jobs.auditing.audit_run import plan_audit
from jobs.auditing.prepare import PreparedAudit
from jobs.experimenting.plan_runs import carry_out
from originality.settings.presets import load_settings
from tests.support.mean_colour import MeanColour, paint

SCIENCE = PreparedAudit(load_settings(), MeanColour, {"model_digest": "abc"})


class Ends(Store):
    """A store that is unavailable from some moment on."""

    out = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        attempt = self._requests._attempt

        def attempt_or_outage(*request: Any) -> Any:
            if self.out:
                raise Outage("no answer")
            return attempt(*request)

        # Private: Requests._attempt, because only a single attempt may fail: the retries and their pauses
        # must be the real ones.
        self._requests._attempt = attempt_or_outage  # type: ignore[method-assign]


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses of retries of the store, on a clock that only they advance."""
    pauses: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(pauses), sleep=pauses.append)
    monkeypatch.setattr("cluster.storage.requests.time", clock)
    return pauses


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    paint(tmp_path / "in", "a.png", (1, 1, 1))
    store = plan_audit(SCIENCE, str(tmp_path / "in"), str(tmp_path / "run")).store
    return RunFolder(Ends(store.url, store.objects, patience=PATIENCE_SECONDS), new=True)


@pytest.mark.parametrize("ending", ["audit", "documents"])
def test_cleanup_after_an_outage_waits_only_seconds(
    run: RunFolder, waited: list[float], ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def given_up(*_: Any, learn: Any, **__: Any) -> driver.Outcome:
        learn(0, image_id_of(b"a"))
        run.store.out = True  # type: ignore[attr-defined]
        raise driver.EngineError("no answer") from Outage("no answer")

    monkeypatch.setattr(driver, "run", given_up)
    monkeypatch.setattr(audit_run, "unsuited", lambda *_: None)
    with pytest.raises(driver.EngineError):
        if ending == "audit":
            audit_run.run_to_end(SCIENCE, run, ClusterSettings(), audit_run.Selection())
        else:
            carry_out(run, MeanColour, ClusterSettings(), gpu=False, memory=0)
    assert 0 < sum(waited) < 5 * HURRY_SECONDS
    run.store.out = False  # type: ignore[attr-defined]
    assert open_run(run.store.url).description
    assert list(run.store.list(DRIVERS))  # it becomes stale by itself


@pytest.mark.parametrize("error", [StoreError("refused"), KeyboardInterrupt(), ValueError("x")])
def test_after_a_different_end_the_store_is_waited_for(
    run: RunFolder, waited: list[float], error: BaseException
) -> None:
    with pytest.raises(type(error)), hurried_after_outage(run.store):
        raise error
    run.store.out = True  # type: ignore[attr-defined]
    with pytest.raises(Outage):
        run.store.exists("run.json")
    assert PATIENCE_SECONDS / 2 < sum(waited) <= PATIENCE_SECONDS
