"""Export the results of a run: a row for each input, with its list's columns and its verdict.

``originality export RUN --to results.parquet`` (also .csv and .jsonl), or ``python -m jobs.export``. In a CSV
the sweep is JSON text, and a text that a spreadsheet would take for a formula begins with an apostrophe.
``--to hf-dataset``, ``--to fiftyone`` and ``--to labelstudio`` write what these programs read into the folder
``--out``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from cluster.run.folder import RunFolder, open_run
from cluster.storage.store import Store, absolute, open_store
from jobs.auditing.damaged import warn_of_damage
from jobs.auditing.results_table import results_tables
from jobs.commandline import exits
from jobs.exporting.fiftyone import write_samples
from jobs.exporting.hf_dataset import write_dataset
from jobs.exporting.labelstudio import write_tasks
from jobs.exporting.tables import WRITERS
from originality.contract.config import SettingsError

_FOLDERS: dict[str, Callable[[RunFolder, Store], int]] = {
    "hf-dataset": write_dataset,
    "fiftyone": write_samples,
    "labelstudio": write_tasks,
}
"""Formats that are a folder of files."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("output", metavar="RUN", help="run folder of an audit")
    parser.add_argument(
        "--to",
        required=True,
        metavar="FILE|FORMAT",
        help="file or object to write, which ends in .parquet, .csv or .jsonl; or what to write into --out: "
        "hf-dataset (with the images), fiftyone, labelstudio",
    )
    parser.add_argument("--out", metavar="FOLDER", help="folder for hf-dataset, fiftyone and labelstudio")


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    target, place, name = _target(arguments)
    folder = open_run(arguments.output)
    if name in _FOLDERS:
        _FOLDERS[name](folder, open_store(place))
    else:
        write = next(write for ending, write in WRITERS.items() if name.lower().endswith(ending))
        open_store(place or "/").write(name, write(results_tables(folder)))
    warn_of_damage(folder)
    print(target)
    return exits.ALL_JUDGED


def _target(arguments: argparse.Namespace) -> tuple[str, str, str]:
    """What to write, its folder, and the name of the file or of the format.

    Raises:
        SettingsError: the flags do not say what to write where.
    """
    if arguments.to in _FOLDERS:
        if not arguments.out:
            raise SettingsError(f"--to {arguments.to}: name its folder by --out")
        place = absolute(arguments.out)
        if arguments.to == "fiftyone" and "://" in place:
            raise SettingsError(f"--out {arguments.out}: FiftyOne reads local files; name a local folder")
        return place, place, arguments.to
    if arguments.out:
        raise SettingsError(f"--out goes with --to {', '.join(_FOLDERS)}; leave it out")
    target = absolute(arguments.to)
    place, _, name = target.rpartition("/")
    if not name.lower().endswith(tuple(WRITERS)):
        known = (
            f"end the name in {', '.join(WRITERS)}, which is the format, or give one of {', '.join(_FOLDERS)}"
        )
        raise SettingsError(f"--to {arguments.to}: {known}")
    return target, place, name


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m jobs.export``; the exit code."""
    return exits.main("originality export", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
