"""Commands that a person starts, one file per command."""

import os
import signal
import sys

INTERRUPTED: int = 130
INTERRUPTED_MESSAGE = "interrupted; run the same command again to resume"


def _stop(*_: object) -> None:
    os.write(2, f"originality: {INTERRUPTED_MESSAGE}\n".encode())
    os._exit(INTERRUPTED)


# Signals are handled before the heavy imports of a command, so that Ctrl-C during them ends in one line. This
# is done only in a command's own process: notebooks and workers that import jobs keep their signal handlers.
if sys.argv and (sys.argv[0] == "-m" or os.path.basename(sys.argv[0]) == "originality"):  # noqa: PTH119
    for _number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_number, _stop)
    from jobs.commandline import process

    process.begin()
