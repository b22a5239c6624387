from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from cluster.storage import bounds
from originality.contract import node_cache
from originality.contract.download import PATIENCE
from tests.support.held_clock import Clock
from tests.support.hub_datasets import HubState, dataset_hubs
from tests.support.mean_colour import paint


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    paint(folder, "b.png", (1, 1, 1))
    paint(folder, "a.PNG", (1, 1, 1))
    paint(folder / "deep", "c.jpg", (3, 3, 3))
    (folder / "notes.txt").write_text("no image")
    (folder / "._b.png").write_bytes(b"a Mac's")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This node's copies; and a process that has not looked at any. Nobody waits for a host that is down."""
    monkeypatch.setenv("ORIGINALITY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(PATIENCE, "0")
    monkeypatch.setattr(node_cache, "known_digests", {})
    return tmp_path / "cache"


@pytest.fixture
def dataset_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubState]:
    """A stand-in of the hub with the data set org/pictures, empty at first."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with dataset_hubs() as state:
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        # The library reads its environment once, and this process has imported it.
        monkeypatch.setattr(constants, "ENDPOINT", state.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield state


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """By which it is judged what is late."""
    clock = Clock()
    monkeypatch.setattr(bounds, "monotonic_clock", clock)
    monkeypatch.setattr(bounds, "LOOK_SECONDS", 0.01)
    return clock
