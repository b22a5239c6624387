"""Browse a run on a local page: filter, sort, look at images, compare two runs, export a selection.

The page is served to this machine alone, under an address that cannot be guessed, until Ctrl-C. Needs the
extra: pip install 'originality[explore]'.
"""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cluster.run.folder import RunFolder, open_run
from jobs.auditing.damaged import warn_of_damage
from jobs.commandline import exits

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("output", metavar="RUN", help="run folder of an audit")
    parser.add_argument("--against", metavar="OTHER", help="run of the same images to compare it with")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; by default any that is free")
    parser.add_argument("--no-open", action="store_true", help="print the address, but open no browser")


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    # Imported here, so that --help works without the extra.
    from jobs.exploring import serving
    from jobs.exploring.rows import Rows
    from jobs.exploring.server import Explorer

    run = open_run(arguments.output, "audit")
    against = open_run(arguments.against, "audit") if arguments.against else None
    sock = serving.listening(arguments.port)  # before the rows are read: a port that is taken costs no time
    with sock, tempfile.TemporaryDirectory(prefix="originality-explore-") as folder:
        _log.info("reading %d rows of %s", len(run.manifest), run.store.url)
        rows = Rows(run, Path(folder), against)
        _warn(run, against)
        token = secrets.token_urlsafe(24)
        url = f"http://{serving.HOST}:{sock.getsockname()[1]}/{token}/"
        print(url, flush=True)
        _log.info("press Ctrl-C to end it")
        if not arguments.no_open:
            serving.open_browser(url)
        try:
            serving.server(Explorer(rows, run, against).app(token)).run(sockets=[sock])
        except KeyboardInterrupt:  # the way to end it
            pass
        finally:
            rows.close()
    return exits.ALL_JUDGED


def _warn(*runs: RunFolder | None) -> None:
    for run in runs:
        if run is not None:
            warn_of_damage(run)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m jobs.explore``; the exit code."""
    return exits.main("originality explore", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
