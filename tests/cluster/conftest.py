from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

import cluster.runtime
from tests.seaweed import BUCKET, seaweed, wait_for_bucket


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One real Ray for the whole session."""
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # workers find the tests
    with cluster.runtime.ray_running():
        yield


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a bucket on a real S3 gateway, to which the environment leads."""
    with seaweed(tmp_path_factory.mktemp("weed")) as way, pytest.MonkeyPatch.context() as patch:
        for name, value in way.items():
            patch.setenv(name, value)
        wait_for_bucket(f"s3://{BUCKET}")
        yield f"s3://{BUCKET}"
