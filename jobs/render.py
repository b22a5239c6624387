"""An image set of the world of shapes, as files for other tools: image folders with captions, or WebDataset.

The same command goes on where it was cut off, and always writes the same bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cluster.driver.progress import duration
from cluster.storage.store import open_store
from jobs.commandline import exits
from originality.contract.config import Frozen, SettingsError
from originality.contract.settings_files import one_line

_ABOUT = "set.json"
_LINE_EVERY = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", choices=("elements", "pairs", "taught"), help="which set")
    parser.add_argument("--out", required=True, help="folder or prefix of a bucket")
    parser.add_argument("--count", type=int, default=1000, help="images (default: 1000)")
    parser.add_argument("--format", choices=("imagefolder", "webdataset"), default="imagefolder")
    parser.add_argument("--part-size", type=int, default=1000, help="images a folder or tar (default: 1000)")
    parser.add_argument("--side", type=int, default=64, help="pixels, a multiple of 64 (default: 64)")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.add_argument_group("elements: which of the 60, drawn alike or not (Appendix B)")
    for name in ("shapes", "colours", "sizes", "textures"):
        chosen.add_argument(f"--{name}", nargs="+", metavar=name[:-1].upper())
    chosen.add_argument("--missing", nargs="+", metavar="'big red full square'", help="shown by no image")
    chosen.add_argument(
        "--frequencies",
        nargs="+",
        metavar="'big red full square=0.01'",
        help="how often these are drawn, where each other one is drawn once",
    )
    chosen.add_argument("--empty-share", type=float, help="share of empty images (default: 0.1)")
    pairs = parser.add_argument_group("pairs: common, rare and unseen ones (Appendix E.1)")
    pairs.add_argument("--common-share", type=float, help="(default: 0.3)")
    pairs.add_argument("--rare-share", type=float, help="(default: 0.001)")
    pairs.add_argument(
        "--fixed-location", action="store_true", default=None, help="common pairs (Appendix C)"
    )
    pairs.add_argument("--named", action="store_true", default=None, help="common and rare pairs have words")
    parser.add_argument("--max-elements", type=int, help="of an image (default: 4)")


def plan_of(arguments: argparse.Namespace) -> Any:
    """The set that is asked for.

    Raises:
        SettingsError: with the fix.
    """
    from originality.experiments.tasks.plans import ElementsPlan, PairsPlan, SetPlan, TaughtPlan

    kinds: dict[str, Any] = {"elements": ElementsPlan, "pairs": PairsPlan, "taught": TaughtPlan}
    every = {name for kind in kinds.values() for name in kind.model_fields} - {"kind"}
    given = {name: value for name in every if (value := getattr(arguments, name)) is not None}
    foreign = sorted(given.keys() - kinds[arguments.images].model_fields.keys())
    if foreign:
        flag = foreign[0].replace("_", "-")
        raise SettingsError(f"--{flag} is no setting of the set {arguments.images!r}; leave it out")
    if "frequencies" in given:
        said = list(map(_frequency, given["frequencies"]))
        given["frequencies"] = dict(said)
        if len(given["frequencies"]) < len(said):
            raise SettingsError("--frequencies names an element twice; say once how often it is drawn")
    try:
        return TypeAdapter[Any](SetPlan).validate_python({"kind": arguments.images, **given})
    except ValidationError as error:
        raise SettingsError(one_line(error, Frozen)) from error


def _frequency(said: str) -> tuple[str, str]:
    name, equals, value = said.rpartition("=")
    if not equals:
        raise SettingsError(f"--frequencies {said!r}: write it as 'big red full square=0.01'")
    return name, value


def run(arguments: argparse.Namespace) -> int:
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
    _same(store, about)
    images, size = plan.images(), arguments.part_size
    started = told = time.monotonic()
    drawn = 0
    for part, first in enumerate(range(0, arguments.count, size)):
        numbers = range(first, min(first + size, arguments.count))
        if store.exists(last_of(part, arguments.format)):
            continue
        for name, content in files_of(
            images, arguments.seed, part, numbers, arguments.side, arguments.format
        ):
            store.write(name, content)
        drawn += len(numbers)
        if time.monotonic() - told > _LINE_EVERY:
            told = time.monotonic()
            left = (arguments.count - numbers.stop) * (told - started) / drawn
            sys.stderr.write(f"{numbers.stop}/{arguments.count} images, {duration(left)} left\n")
    print(f"{arguments.count} images in {store.url}")
    return exits.ALL_JUDGED


def _same(store: Any, about: dict[str, Any]) -> None:
    """Notes what is written there.

    Raises:
        SettingsError: the folder holds another set.
    """
    said = json.dumps(about, indent=1, sort_keys=True).encode()
    if not store.create(_ABOUT, said) and store.read(_ABOUT) != said:
        raise SettingsError(f"{store.url} holds another set (its {_ABOUT} says which); give another --out")


def main(argv: Any = None) -> int:
    return exits.main("originality synthetic render", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
