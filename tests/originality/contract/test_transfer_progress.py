"""Lines about a transfer."""

from __future__ import annotations

from originality.contract.transfer_progress import Progress


def test_progress_reports_amount_rate_and_time_left() -> None:
    messages: list[str] = []
    times = iter([0.0, 1.0, 6.0, 7.0, 10.0])
    with Progress("model", 100_000_000, messages.append, clock=lambda: next(times)) as progress:
        for _ in range(3):
            progress.add(20_000_000)
    assert messages == [
        "fetching model (100 MB)",
        "model: 40 of 100 MB, 6.7 MB/s, 9 s left",
        "model: 60 MB in 10 s (6.0 MB/s)",
    ]
