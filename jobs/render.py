"""Render an image set of the world of shapes to files: image folders with captions, or WebDataset.

Run the same command again to resume. It always writes the same bytes.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cluster.driver.progress import duration
from cluster.storage.store import open_store
from jobs.commandline import exits
from originality.contract.config import Frozen, SettingsError
from originality.contract.settings_files import one_line

_log = logging.getLogger(__name__)

_ABOUT = "set.json"
"""File that records which image set a folder holds."""
_LINE_EVERY = 10.0
"""Seconds between two lines of progress."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("images", choices=("elements", "pairs", "taught"), help="image set to render")
    parser.add_argument("--out", required=True, help="folder or bucket prefix to write to")
    parser.add_argument("--count", type=int, default=1000, help="number of images (default: 1000)")
    parser.add_argument(
        "--format",
        choices=("imagefolder", "webdataset"),
        default="imagefolder",
        help="layout of the files (default: imagefolder)",
    )
    parser.add_argument(
        "--part-size", type=int, default=1000, help="images per folder or tar file (default: 1000)"
    )
    parser.add_argument(
        "--side", type=int, default=64, help="side of an image in pixels, a multiple of 64 (default: 64)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers (default: 0)")
    chosen = parser.add_argument_group("elements: which of the 60 elements, and how often (Appendix B)")
    for name in ("shapes", "colours", "sizes", "textures"):
        chosen.add_argument(
            f"--{name}", nargs="+", metavar=name[:-1].upper(), help=f"only these {name} (default: all)"
        )
    chosen.add_argument(
        "--missing", nargs="+", metavar="'big red full square'", help="elements that no image shows"
    )
    chosen.add_argument(
        "--frequencies",
        nargs="+",
        metavar="'big red full square=0.01'",
        help="relative frequencies of elements; all others have frequency 1",
    )
    chosen.add_argument("--empty-share", type=float, help="share of empty images (default: 0.1)")
    pairs = parser.add_argument_group("pairs: common, rare and unseen pairs of elements (Appendix E.1)")
    pairs.add_argument("--common-share", type=float, help="share of images with a common pair (default: 0.3)")
    pairs.add_argument("--rare-share", type=float, help="share of images with a rare pair (default: 0.001)")
    pairs.add_argument(
        "--fixed-location",
        action="store_true",
        default=None,
        help="draw common pairs always at the same place (Appendix C)",
    )
    pairs.add_argument(
        "--named", action="store_true", default=None, help="name common and rare pairs in the captions"
    )
    parser.add_argument(
        "--max-elements", type=int, help="largest number of elements in an image (default: 4)"
    )


def plan_of(arguments: argparse.Namespace) -> Any:
    """Plan of the image set that the flags describe.

    Raises:
        SettingsError: a flag is invalid or does not apply to this kind of set.
    """
    from originality.experiments.tasks.plans import ElementsPlan, PairsPlan, SetPlan, TaughtPlan

    kinds: dict[str, Any] = {"elements": ElementsPlan, "pairs": PairsPlan, "taught": TaughtPlan}
    every = {name for kind in kinds.values() for name in kind.model_fields} - {"kind"}
    given = {name: value for name in every if (value := getattr(arguments, name)) is not None}
    foreign = sorted(given.keys() - kinds[arguments.images].model_fields.keys())
    if foreign:
        flag = foreign[0].replace("_", "-")
        raise SettingsError(f"--{flag} does not apply to the set {arguments.images!r}; leave it out")
    if "frequencies" in given:
        frequencies = list(map(_frequency, given["frequencies"]))
        given["frequencies"] = dict(frequencies)
        if len(given["frequencies"]) < len(frequencies):
            raise SettingsError("--frequencies names an element twice; give each element once")
    try:
        return TypeAdapter[Any](SetPlan).validate_python({"kind": arguments.images, **given})
    except ValidationError as error:
        raise SettingsError(one_line(error, Frozen)) from error


def _frequency(given: str) -> tuple[str, str]:
    name, equals, value = given.rpartition("=")
    if not equals:
        raise SettingsError(f"--frequencies {given!r}: write it as 'big red full square=0.01'")
    return name, value


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    from originality.shapes.export import files_of, last_of

    for name in ("count", "part_size", "side"):
        if getattr(arguments, name) < 1:
            raise SettingsError(f"--{name.replace('_', '-')} {getattr(arguments, name)}: give 1 or more")
    if arguments.side % 64:
        raise SettingsError(f"--side {arguments.side}: give a multiple of 64")
    plan = plan_of(arguments)
    store = open_store(arguments.out)
    about = {
        "images": plan.model_dump(mode="json"),
        **{name: getattr(arguments, name) for name in ("count", "format", "part_size", "side", "seed")},
    }
    _check_same_set(store, about)
    images, size = plan.images(), arguments.part_size
    started = last_line = time.monotonic()
    drawn = 0
    for part, first in enumerate(range(0, arguments.count, size)):
        numbers = range(first, min(first + size, arguments.count))
        if store.exists(last_of(part, arguments.format)):
            continue  # a part's last file is written last, so the part is complete
        for name, content in files_of(
            images, arguments.seed, part, numbers, arguments.side, arguments.format
        ):
            store.write(name, content)
        drawn += len(numbers)
        if time.monotonic() - last_line > _LINE_EVERY:
            last_line = time.monotonic()
            left = (arguments.count - numbers.stop) * (last_line - started) / drawn
            _log.info("%d/%d images, %s left", numbers.stop, arguments.count, duration(left))
    print(f"{arguments.count} images in {store.url}")
    return exits.ALL_JUDGED


def _check_same_set(store: Any, about: dict[str, Any]) -> None:
    """Record which image set a folder holds, or compare with what it holds already.

    Raises:
        SettingsError: the folder holds a different set.
    """
    data = json.dumps(about, indent=1, sort_keys=True).encode()
    if not store.create(_ABOUT, data) and store.read(_ABOUT) != data:
        raise SettingsError(
            f"{store.url} holds a different image set (see {_ABOUT}); choose a different --out"
        )


def main(argv: Any = None) -> int:
    """Run ``python -m jobs.render``; the exit code."""
    return exits.main("originality synthetic render", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
