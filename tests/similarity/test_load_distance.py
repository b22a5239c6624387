from __future__ import annotations

import sys
from types import ModuleType

import pytest

from originality.settings import DistanceSettings
from originality.similarity import load_distance

MODULES = {"elements": "ElementSetDistance", "imagenet": "ImageNetFeatures", "dreamsim": "DreamSim"}


@pytest.mark.parametrize("metric", sorted(MODULES))
def test_imports_only_what_is_chosen(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MODULES:
        # None: an import of it would raise.
        monkeypatch.setitem(sys.modules, f"originality.similarity.{name}", None)
    chosen, loaded = ModuleType(metric), object()
    setattr(chosen, MODULES[metric], lambda *args, **kwargs: loaded)
    monkeypatch.setitem(sys.modules, f"originality.similarity.{metric}", chosen)
    assert load_distance(DistanceSettings.model_validate({"metric": metric, "threshold": 0.5})) is loaded
