from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cluster.runtime

_SCORER = Path(__file__).parents[1] / "cluster"
"""Where the small scorer of the engine's tests is."""
if str(_SCORER) not in sys.path:
    sys.path.append(str(_SCORER))


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One real Ray for the whole session."""
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # workers find the tests
    with cluster.runtime.ray_running():
        yield
