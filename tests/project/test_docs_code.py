"""Code and configuration on the pages: Python compiles, YAML and TOML parse, the guide's metric is one."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import numpy as np
import pytest
import yaml

from jobs.api import auditor
from originality.evaluation.distance import Distance
from originality.settings.presets import load_settings
from tests.support.doc_commands import pages
from tests.support.places import ROOT

BLOCKS = [
    (f"{file.relative_to(ROOT)} {number}", language, body)
    for file in pages()
    for number, (language, body) in enumerate(
        re.findall(r"^```(python|yaml|toml)\n(.*?)^```", file.read_text(), re.MULTILINE | re.DOTALL)
    )
]


def blocks(page: str, language: str) -> list[str]:
    return [body for name, kind, body in BLOCKS if name.startswith(page) and kind == language]


@pytest.mark.parametrize(("name", "language", "body"), BLOCKS, ids=[name for name, _, _ in BLOCKS])
def test_code_blocks_parse(name: str, language: str, body: str) -> None:
    if language == "python":
        compile(body, name, "exec")
    elif language == "yaml":
        assert isinstance(yaml.safe_load(body), dict)
    else:
        assert tomllib.loads(body)


def test_the_metric_of_the_guide_is_a_distance() -> None:
    names: dict[str, Any] = {}
    exec(blocks("docs/extending.md", "python")[0], names)
    metric = names["MeanColour"]()
    assert isinstance(metric, Distance)
    images = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (0, 0, 255)])
    embedded = metric.embed(images)
    assert metric.between(embedded[0], embedded).tolist() == [0.0, 0.0, 1.0]


def test_the_metric_of_the_guide_is_used_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the model, which is not loaded."""
    seen: list[Any] = []

    def stop(settings: Any) -> None:
        seen.append(settings)
        raise InterruptedError

    monkeypatch.setattr(auditor, "copies_here", stop)
    names: dict[str, Any] = {}
    first, second, *_ = blocks("docs/extending.md", "python")
    exec(first, names)
    with pytest.raises(InterruptedError):
        exec(second, names)
    assert seen[0].distance.metric == names["MeanColour"].name


def test_the_domain_of_the_guide_is_valid() -> None:
    (text,) = blocks("docs/guide/domains.md", "yaml")
    settings = load_settings("paper", None, yaml.safe_load(text))
    assert settings.domain == "ships" and set(settings.domains) == {"ships"}
