from __future__ import annotations

import io
import logging
import socket

import pytest

from originality.contract.log_lines import PlainLines, current_level, log_to


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainLines(gpu="0"))
    log_to(handler, "info")
    return stream


def test_a_line_names_time_level_node_gpu_and_image(lines: io.StringIO) -> None:
    logging.getLogger("cluster.worker").info("judged", extra={"image": "4c82bf2d5329abcd"})
    assert lines.getvalue()[10] == "T" and lines.getvalue()[19] == "Z"
    assert lines.getvalue().endswith(f" INFO {socket.gethostname()} GPU 0 image 4c82bf2d5329: judged\n")


def test_below_the_level_nothing_is_written_and_each_record_once(lines: io.StringIO) -> None:
    logging.getLogger("originality.sweep").debug("unseen")
    log_to(logging.getLogger("jobs").handlers[0], "warning")
    logging.getLogger("jobs").info("unseen")
    logging.getLogger("jobs").warning("seen")
    assert lines.getvalue().count("\n") == 1 and "seen" in lines.getvalue()


def test_no_secret_and_no_control_character_is_written(lines: io.StringIO) -> None:
    logging.getLogger("cluster").warning("two\nlines \x1b[31m of https://joe:s3cr3t@host/%s", "x")
    written = lines.getvalue()
    assert written.count("\n") == 1 and "\x1b" not in written and "s3cr3t" not in written


def test_an_exception_comes_with_its_traceback(lines: io.StringIO) -> None:
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("jobs").exception("failed")
    assert "failed\nTraceback" in lines.getvalue() and "ValueError: why" in lines.getvalue()


def test_the_level_of_this_process(lines: io.StringIO) -> None:
    assert current_level() == "info"
    log_to(logging.getLogger("jobs").handlers[0], "debug")
    assert current_level() == "debug"
