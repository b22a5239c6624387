from __future__ import annotations

from cluster.storage.periodic import regularly
from cluster.storage.store import StoreError
from tests.support.waiting import until


def test_a_failed_task_is_retried() -> None:
    """Nobody would notice a thread that ended, and its driver would be taken for dead."""
    errors = [StoreError("out"), ValueError("damaged"), RuntimeError("anything")]
    calls: list[int] = []

    def task() -> None:
        calls.append(len(errors))
        if errors:
            raise errors.pop()

    with regularly(0.001, task):
        until(lambda: calls.count(0) >= 2)
