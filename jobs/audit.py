"""Audit a collection: find for each image how many tokens a model needs to redraw it (min tokens).

``originality audit INPUT --out OUTPUT``, or ``python -m jobs.audit INPUT --out OUTPUT``. Run the same command
again to resume an interrupted audit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from cluster.storage.store import absolute
from jobs.auditing.audit_run import audit
from jobs.auditing.changes import Changes
from jobs.auditing.dry_run import dry_run
from jobs.auditing.prepare import check_first, prepare
from jobs.commandline import exits, options
from originality.contract.config import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument(
        "input",
        nargs="+",
        metavar="INPUT",
        help="images, one or more of: folder, s3://, gs:// or az:// prefix, quoted glob, CSV or Parquet "
        "list, image file",
    )
    parser.add_argument("--out", help="run folder for the results; an existing one is resumed")
    parser.add_argument(
        "--dry-run", action="store_true", help="only read and check the images; write nothing, load no model"
    )
    parser.add_argument(
        "--force-new",
        action="store_true",
        help="if --out holds a run with different settings, start a new one in a folder beside it",
    )
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="add to the run in --out the inputs that are new since it was planned",
    )
    parser.add_argument(
        "--moved-from",
        metavar="OLD",
        help="the collection of the run in --out was OLD and is INPUT now, by the same names",
    )
    parser.add_argument(
        "--unjudged-ok",
        action="store_true",
        help="exit with code 0 even if images were rejected or failed, for schedulers that retry otherwise",
    )
    options.add_settings_arguments(parser)
    options.add_list_arguments(parser)
    options.add_selection_arguments(parser)
    options.add_cluster_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    code = _run(arguments)
    return exits.ALL_JUDGED if code == exits.SOME_UNJUDGED and arguments.unjudged_ok else code


def _run(arguments: argparse.Namespace) -> int:
    # A dry run needs no domain: whether an image can be decoded does not depend on it.
    settings = options.settings_of(arguments, run=arguments.out, any_domain=arguments.dry_run)
    how = options.cluster_settings_of(arguments)
    selection = options.selection_of(arguments, settings.seed)
    if arguments.dry_run:
        return dry_run(settings, arguments.input, selection, how.limits, options.table_options_of(arguments))
    if not arguments.out:
        raise SettingsError("--out is missing: name a folder for the results")
    if absolute(arguments.out) in map(absolute, arguments.input):
        raise SettingsError("--out is the input itself: choose a different folder for the results")
    check_first(settings, how, arguments.out)
    prepared = replace(prepare(settings), table_options=options.table_options_of(arguments))
    return audit(
        prepared,
        arguments.input,
        arguments.out,
        how=how,
        selection=selection,
        force_new=arguments.force_new,
        changes=Changes(arguments.refresh, arguments.moved_from),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m jobs.audit``; the exit code."""
    return exits.main("originality audit", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
