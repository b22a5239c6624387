"""What tests share: the model that ships, loaded once, and a bucket."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from originality.contract.log_lines import LOGGERS
from originality.settings.audit import AuditSettings
from originality.settings.parts import ModelSettings
from originality.settings.presets import load_settings
from tests.support import chromium
from tests.support.seaweed import BUCKET, seaweed, wait_for_bucket
from tests.support.waiting import PATIENCE

# Ray starts its workers at niceness 15, so beside a busy neighbour a test would wait minutes for one; and it
# gives up on its processes that are slow to start.
os.environ.setdefault("RAY_worker_niceness", "0")
# Workers started ahead, which are never used: ours have an environment of their own.
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
for _limit in ("RAY_worker_register_timeout_seconds", "RAY_DASHBOARD_STARTUP_TIMEOUT_S"):
    os.environ.setdefault(_limit, str(int(PATIENCE)))
# One for all that a process starts: Ray remembers the first for as long as the process lives.
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
# Beside other work an example takes any time, so hypothesis judges none by the clock. The examples are the
# same on every machine and in every run: a failure is then a fact about the code.
settings.register_profile(
    "suite", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


WAITING = ("chaos", "cluster", "jobs", "scale", "originality/report")
"""Folders of tests that mostly wait, for processes or for a store; the others compute."""
LONG = (
    "test_chaos",
    "test_real_sweep",
    "test_submit",
    "test_store_faults",
    "test_broken_machines",
    "test_running",
    "test_driver",
    "test_hub",
)
"""The longest files of those that wait."""


def _waits(file: Path) -> bool:
    return file.relative_to(Path(__file__).parent).as_posix().startswith(WAITING)


def _in_turn(items: list[pytest.Item]) -> list[pytest.Item]:
    """File by file, those that wait and those that compute mixed, so that both go on to the end; long ones
    first. The order is the same in every process of xdist, as it must be."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    waiting = sorted((f for f in files if _waits(f)), key=lambda file: file.stem not in LONG)
    computing = [file for file in files if not _waits(file)]
    places = {file: (k + 1) / len(group) for group in (waiting, computing) for k, file in enumerate(group)}
    return [item for file in sorted(files, key=lambda file: places[file]) for item in files[file]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = _in_turn(items)
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(
                    pytest.mark.skip(reason="torch sees no GPU here; make gpu-check where it does")
                )


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Takes back what a command sets of the packages' loggers, so that no test depends on an earlier one."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture(scope="session")
def model():
    from originality.model.diffusion import LatentDiffusion

    return LatentDiffusion(ModelSettings(device="cpu"))


@pytest.fixture(scope="session")
def quick() -> AuditSettings:
    """The laptop preset, cut down to seconds: for invariances, not for verdicts."""
    return load_settings(
        "laptop",
        None,
        {
            "model": {"device": "cpu"},
            "max_tokens": 2,
            "inversion": {"steps": 4, "batch_size": 4, "lanes": 2},
            "redraw": {"count": 3, "steps": 3},
        },
    )


@pytest.fixture(scope="session")
def local_ray(s3: str) -> Iterator[None]:
    """One real Ray for the whole session, whose workers know the way to the bucket."""
    from cluster.ray_runtime.runtime import ray_running

    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # workers find the tests
    with ray_running():
        yield


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a bucket on a real S3 gateway, to which the environment leads."""
    with seaweed(tmp_path_factory.mktemp("weed")) as way, pytest.MonkeyPatch.context() as patch:
        for name, value in way.items():
            patch.setenv(name, value)
        wait_for_bucket(f"s3://{BUCKET}")
        yield f"s3://{BUCKET}"


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    """One headless Chromium for the session."""
    binary = chromium.find()
    assert binary is not None
    with chromium.browse(binary, tmp_path_factory.mktemp("browser") / "profile") as page:
        yield page
