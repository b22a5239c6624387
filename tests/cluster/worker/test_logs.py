"""Log lines of a worker, in a real actor and called directly."""

from __future__ import annotations

import io
import logging
import socket
from pathlib import Path

import pytest
import ray

from cluster.worker.logs import log_on_node
from cluster.worker.worker import Worker
from tests.support.mean_colour import BREAKS, MeanColour, paint
from tests.support.plain_worker import lease_all, task, work
from tests.support.waiting import PATIENCE


class Logging:
    """An actor that logs as a worker does."""

    def lines(self, level: str) -> str:
        import sys

        sys.stderr = stream = io.StringIO()
        log_on_node(level)
        logging.getLogger("cluster.worker").info("judged", extra={"image": "4c82bf2d5329abcd"})
        logging.getLogger("cluster.worker").warning("not scored")
        return stream.getvalue()


@pytest.mark.usefixtures("local_ray")
def test_an_actor_logs_from_its_level_on_with_node_and_image() -> None:
    actor = ray.remote(Logging).options(num_cpus=0).remote()
    info, warning = ray.get([actor.lines.remote("info"), actor.lines.remote("warning")], timeout=PATIENCE)
    assert info.splitlines()[0].endswith(f" INFO {socket.gethostname()} image 4c82bf2d5329: judged")
    assert info.count("\n") == 2 and warning.count("\n") == 1


@pytest.mark.usefixtures("local_ray")
def test_the_handlers_of_the_process_that_started_ray_stay() -> None:
    before = logging.NullHandler()
    logging.getLogger("cluster").handlers[:] = [before]
    log_on_node("debug")
    assert logging.getLogger("cluster").handlers == [before]


def test_a_worker_logs_the_result_of_each_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paint(tmp_path / "in", "bad.png", BREAKS)
    paint(tmp_path / "in", "good.png", (1, 2, 3))
    leases = lease_all(tmp_path / "in")
    with caplog.at_level(logging.DEBUG, logger="cluster"):
        worker = Worker(task(tmp_path, lambda: MeanColour(capacity=1)))
        reports = work(worker, [leases["good.png"]], lambda report: bool(report.settled))
        good = reports[-1].settled[0].image_id
        work(worker, [leases["bad.png"]], lambda report: bool(report.returned))
        worker.stop(PATIENCE)
    of_good = [r.getMessage() for r in caplog.records if getattr(r, "image", "") == good]
    assert of_good[0] == "admitted" and of_good[-1] == "judged"
    broken = next(r for r in caplog.records if "green broke me" in r.getMessage() and hasattr(r, "image"))
    assert broken.levelno == logging.WARNING and broken.exc_info
