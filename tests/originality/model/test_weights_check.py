"""Weights that are not those of their configuration are found by their headers, before a run starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from originality.contract.config import SettingsError
from originality.model.model_folder import open_model
from originality.model.weights_check import check_weights
from originality.settings.parts import SHIPPED_MODEL, ModelSettings
from tests.support.tiny_models import FAMILIES


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES["sdxl"](tmp_path_factory.mktemp("sdxl") / "model")


@pytest.mark.parametrize("name", [SHIPPED_MODEL, *FAMILIES])
def test_complete_weights_pass(tmp_path: Path, name: str) -> None:
    path = name if name == SHIPPED_MODEL else str(FAMILIES[name](tmp_path / "model"))
    check_weights(open_model(ModelSettings(path=path)))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder_2"])
@pytest.mark.parametrize(("change", "why"), [("lost", "lacks 1 of"), ("shorter", "which should be")])
def test_missing_or_misshapen_tensors_are_named(
    sdxl: Path, tmp_path: Path, part: str, change: str, why: str
) -> None:
    shutil.copytree(sdxl, tmp_path / "model")
    (file,) = (tmp_path / "model" / part).glob("*.safetensors")
    weights = load_file(file)
    name = next(name for name in weights if "norm" in name)
    value = weights.pop(name)
    more = {name: value[:-1].clone()} if change == "shorter" else {}
    save_file({**weights, **more, "besides": value}, file, {"format": "pt"})
    with pytest.raises(SettingsError, match=why) as caught:
        check_weights(open_model(ModelSettings(path=str(tmp_path / "model"))))
    message = str(caught.value)
    assert str(file) in message and name.removeprefix("text_model.") in message and "\n" not in message


def test_an_empty_configuration_of_a_text_encoder_is_named(sdxl: Path, tmp_path: Path) -> None:
    shutil.copytree(sdxl, tmp_path / "model")
    (tmp_path / "model" / "text_encoder" / "config.json").write_text(json.dumps({}))
    with pytest.raises(SettingsError, match=r"by text_encoder/config\.json"):
        check_weights(open_model(ModelSettings(path=str(tmp_path / "model"))))
