"""Settings of an auditor in Python: what replaces a value drops what held for the old one only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jobs.api import auditor
from originality.contract.config import SettingsError
from originality.contract.settings_files import merged
from originality.settings.presets import load_settings


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The settings of auditors, of which no model is loaded."""
    seen: list[Any] = []

    def stop(settings: Any) -> None:
        seen.append(settings)
        raise InterruptedError

    monkeypatch.setattr(auditor, "copies_here", stop)
    return seen


def build(built: list[Any], **given: Any) -> Any:
    with pytest.raises(InterruptedError):
        auditor.Auditor(**given)
    return built[-1]


def test_a_threshold_goes_with_its_metric(built: list[Any]) -> None:
    laptop = load_settings("laptop")
    assert laptop.distance.threshold == 0.3
    free = {"in_distribution": {"check": "none"}, "domain": "shapes"}
    whole = load_settings("laptop", flags=free)
    assert build(built, settings=whole, metric="dreamsim").distance.threshold == 0.45
    with pytest.raises(SettingsError, match=r"distance\.threshold"):
        auditor.Auditor(settings=whole, metric="imagenet")


def test_a_revision_goes_with_its_model() -> None:
    base = {"model": {"path": "a/b", "revision": "0" * 40, "dtype": "fp16"}}
    assert merged(base, {"model": {"path": "c/d"}}) == {"model": {"path": "c/d", "dtype": "fp16"}}
    assert merged(base, {"model": {"dtype": "fp32"}})["model"]["revision"] == "0" * 40


def test_a_metric_may_not_have_the_name_of_a_built_in_one() -> None:
    class Mine:
        name, largest, threshold = "elements", 1.0, 0.1

        def digest(self) -> str:
            return "mine"

        def embed(self, images: np.ndarray) -> list[float]:
            return [0.0 for _ in images]

        def between(self, query: float, redraws: list[float]) -> np.ndarray:
            return np.zeros(len(redraws))

    with pytest.raises(SettingsError, match="'elements'"):
        auditor.Auditor(preset="laptop", metric=Mine())
