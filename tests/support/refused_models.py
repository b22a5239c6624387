"""Refusals of a model's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from originality.contract.config import SettingsError
from originality.model.model_folder import open_model
from originality.settings.parts import ModelSettings


def refused(folder: Path, **settings: Any) -> str:
    """The one-line message with which a model's folder is refused."""
    with pytest.raises(SettingsError) as caught:
        open_model(ModelSettings(path=str(folder), device="cpu", **settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)
