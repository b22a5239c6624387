from __future__ import annotations

import io

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


def test_a_terminal_has_one_line() -> None:
    out = Terminal()
    progress = Progress(1, out)
    progress.show("one")
    progress.show("two")
    progress.close()
    assert out.getvalue() == "\r\033[K0/1 done · one\r\033[K0/1 done · two\n"
