from __future__ import annotations

import io
import re

from cluster.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_are_few_but_come_early() -> None:
    now = 0.0
    out = io.StringIO()
    progress = Progress(4, out, clock=lambda: now)
    progress.show("loading the model")
    now = 2.0
    progress.show("loading the model")
    progress.began()
    progress.show("m=1 step 1/250")
    now = 5.0
    progress.show("m=1 step 9/250")
    progress.settled("judged")
    progress.settled("rejected")
    now = 32.0
    progress.show("m=2 step 1/250")
    progress.close()
    assert out.getvalue().splitlines() == [
        "0/4 done · loading the model",
        "0/4 done · m=1 step 1/250",
        "2/4 done · 1 rejected · 4 images/min · ETA 30 s · m=2 step 1/250",
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
    progress.close()
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "a worker died: no reason" in shown
    last = shown.rstrip().splitlines()[-2:]
    assert "3/4 done · 2 failed · 3 images/min · ETA 20 s · 3 workers · $1.50" in last[0]
    assert last[1].strip() == "two"


def test_the_rate_says_what_is_done() -> None:
    now = 0.0
    progress = Progress(4, io.StringIO(), clock=lambda: now, of="items")
    progress.began()
    progress.settled("judged")
    now = 300.0
    assert progress.line("") == "1/4 done · 12 items/h · ETA 15 min 0 s"
    assert progress.state()["of"] == "items"


def test_the_rate_is_that_of_late() -> None:
    now = 0.0
    progress = Progress(1000, io.StringIO(), clock=lambda: now)
    progress.began()
    for minute in range(60):
        now = 60.0 * minute
        progress.settled("judged", 1 if minute < 30 else 10)
        progress.rate()
    assert abs(progress.rate() * 60 - 10) < 0.5
    assert progress.state()["done"] == 330
