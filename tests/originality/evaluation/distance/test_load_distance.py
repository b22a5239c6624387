from __future__ import annotations

import sys
from types import ModuleType

import pytest

from originality.contract.config import SettingsError
from originality.evaluation.distance import load_distance
from originality.settings.parts import DistanceSettings
from originality.settings.presets import load_settings

MODULES = {
    "elements": ("originality.evaluation.distance.elements", "ElementSetDistance"),
    "imagenet": ("originality.vision.imagenet", "ImageNetFeatures"),
    "dreamsim": ("originality.evaluation.distance.dreamsim", "DreamSim"),
}


@pytest.mark.parametrize("metric", sorted(MODULES))
def test_imports_only_what_is_chosen(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, _ in MODULES.values():
        monkeypatch.setitem(sys.modules, module, None)  # an import of it would raise
    chosen, loaded = ModuleType(metric), object()
    module, name = MODULES[metric]
    setattr(chosen, name, lambda *args, **kwargs: loaded)
    monkeypatch.setitem(sys.modules, module, chosen)
    assert load_distance(DistanceSettings.model_validate({"metric": metric, "threshold": 0.5})) is loaded


def test_a_threshold_holds_for_one_branch() -> None:
    def threshold(**distance: object) -> float:
        check = {"check": "none"}
        flags = {"domain": "houses", "distance": {"metric": "dreamsim", **distance}, "in_distribution": check}
        return load_settings("laptop", None, flags).distance.threshold

    assert threshold() == threshold(branch="ensemble") == 0.45
    assert threshold(branch="clip_vitb32", threshold=0.3) == 0.3
    with pytest.raises(SettingsError, match=r"threshold .* distance\.branch 'clip_vitb32'; set dist"):
        threshold(branch="clip_vitb32")
    with pytest.raises(SettingsError, match=r"setting 'distance\.branch'"):
        threshold(branch="vgg")
