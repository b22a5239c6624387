from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

import cluster.runtime


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One real Ray for the whole session."""
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # workers find the tests
    with cluster.runtime.ray_running():
        yield
