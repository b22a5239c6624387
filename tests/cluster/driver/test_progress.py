from __future__ import annotations

import io
import re

import pytest

from cluster.driver.progress import Progress, rate_text
from cluster.driver.remaining import RemainingWork


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_are_few_but_come_early() -> None:
    now = 0.0
    out = io.StringIO()
    progress = Progress(4, out, clock=lambda: now, most_parts=5)
    progress.show("loading the model")
    now = 2.0
    progress.show("loading the model")
    progress.began()
    progress.show("m=1 step 1/250")
    now = 5.0
    progress.show("m=1 step 9/250")
    progress.settled("judged", parts=2)
    progress.worked(2)
    progress.settled("rejected")
    now = 32.0
    progress.show("m=2 step 1/250")
    now = 40.0
    progress.settled("judged", 2)
    progress.close()
    assert out.getvalue().splitlines() == [
        "0/4 done · loading the model",
        "0/4 done · after 2 s · m=1 step 1/250",
        "2/4 done · 1 rejected · after 32 s · 4 images/min · about 38 s left · m=2 step 1/250",
        "all 4 done · 1 rejected · in 40 s",
    ]


def test_a_terminal_has_a_live_view() -> None:
    now = 0.0
    out = Terminal()
    progress = Progress(4, out, clock=lambda: now)
    progress.show("one")
    progress.began()
    progress.settled("judged")
    progress.settled("failed", 2)
    now = 60.0
    progress.show("a worker died: no reason", now=True)
    progress.show("two", workers=3, cost=1.5)
    now = 90.0
    progress.settled("judged")
    progress.close()
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "a worker died: no reason" in shown
    assert (
        shown.rstrip().splitlines()[-1].strip() == "all 4 done · 2 failed · in 1 min 30 s · 3 workers · $1.50"
    )


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_has_lines(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    out = Terminal()
    progress = Progress(2, out, clock=lambda: 0.0)
    progress.show("loading the model")
    progress.settled("judged", 2)
    progress.close()
    assert out.getvalue() == "0/2 done · loading the model\nall 2 done\n"


def test_the_rate_names_its_unit() -> None:
    now = 0.0
    progress = Progress(4, io.StringIO(), clock=lambda: now, of="items")
    progress.began()
    progress.settled("judged", parts=1)
    now = 300.0
    progress.worked(1)
    assert progress.line("") == "1/4 done · after 5 min 0 s · 12 items/h · about 15 min 0 s left"
    assert progress.state()["of"] == "items"


def test_the_rate_is_recent() -> None:
    now = 0.0
    progress = Progress(1000, io.StringIO(), clock=lambda: now)
    progress.began()
    for minute in range(60):
        now = 60.0 * minute
        progress.settled("judged", 1 if minute < 30 else 10)
        progress.rate()
    assert abs(progress.rate() * 60 - 10) < 0.5
    assert progress.state()["done"] == 330


def test_rates_are_numbers_as_people_say_them() -> None:
    assert [rate_text(rate, "images") for rate in (1e-4, 0.5, 8.0, 1234.0)] == [
        "0.36 images/h",
        "30 images/min",
        "480 images/min",
        "1,234 images/s",
    ]


def simulated(parts_of: list[int], lanes: int) -> list[tuple[float, float]]:
    """Simulates a run that does one part in ten seconds in each lane; returns the time, and the time left as
    shown, every two seconds."""
    now = 0.0
    progress = Progress(len(parts_of), io.StringIO(), clock=lambda: now, most_parts=5)
    progress.began()
    waiting, flying, shown = list(parts_of), [], []
    while waiting or flying:
        while waiting and len(flying) < lanes:
            flying.append([waiting.pop(0), 0.0])
        now += 2.0
        for item in flying:
            item[1] += 0.2
            progress.worked(0.2)
        for item in [item for item in flying if item[1] >= item[0] - 1e-9]:
            flying.remove(item)
            progress.settled("judged", parts=item[0])
        progress.in_flight([done for _, done in flying])
        if (left := progress.seconds_left()) is not None:
            shown.append((now, left))
    return [(at, left) for at, left in shown if at < now] + [(now, 0.0)]


def test_the_time_left_is_shown_before_the_first_image_is_done_and_does_not_grow() -> None:
    """Four images at once that each take five parts: none is finished for fifty seconds."""
    shown = simulated([5] * 40, lanes=4)
    assert shown[0][0] == 10.0
    end = shown[-1][0]
    totals = [at + left for at, left in shown]
    early = [total for (at, _), total in zip(shown, totals, strict=True) if at < 50]
    late = [total for (at, _), total in zip(shown, totals, strict=True) if at > 0.3 * end]
    assert min(early) > 0.5 * end and max(early) - min(early) < 0.35 * end, early
    assert all(abs(total - end) < 0.1 * end for total in late)


def test_the_time_left_follows_what_images_take() -> None:
    """Most images take one part, some five; the estimate learns that after a while."""
    end = (shown := simulated(([1] * 4 + [5]) * 30, lanes=3))[-1][0]
    assert all(abs(at + left - end) < 0.15 * end for at, left in shown if 0.3 * end < at < 0.95 * end)


def test_copies_and_rejected_inputs_are_no_work() -> None:
    remaining = RemainingWork(5)
    for _ in range(50):
        remaining.finished(2, copies=1)
        remaining.finished(0)
    assert remaining.parts([], 300) == pytest.approx(200, rel=0.05)
    assert remaining.parts([1.5], 0) == pytest.approx(0.5, rel=0.2)
