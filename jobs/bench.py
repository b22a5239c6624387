"""Measure what the preset ``fast`` costs and how often it agrees with ``paper`` (``make bench``).

Takes hours and resumes. Each run is one variant with one seed and writes a file of verdicts; a run whose file
exists is not judged again.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from jobs.commandline import logs
from originality.bench import report, variants

_log = logging.getLogger(__name__)

FOLDER = Path("docs/bench")


def main() -> None:
    """Run ``python -m jobs.bench``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = list(variants.VARIANTS)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for verdicts and report")
    parser.add_argument("--variants", nargs="+", choices=every, default=every, help="variants to judge")
    parser.add_argument("--seeds", nargs="+", type=int, help="only these of a variant's seeds")
    parser.add_argument("--part", default="1/1", help="K/N: every N-th run from the K-th on, and no report")
    parser.add_argument("--report", action="store_true", help="judge nothing, only write the report")
    logs.add_level(parser)
    arguments = parser.parse_args()
    logs.set_up(arguments.log_level)
    k, n = map(int, arguments.part.split("/"))
    chosen = [
        (variants.VARIANTS[name], seed)
        for name in arguments.variants
        for seed in variants.VARIANTS[name].seeds
        if arguments.seeds is None or seed in arguments.seeds
    ]
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        for variant, seed in chosen[k - 1 :: n]:
            _log.info("%s, seed %d: %s", variant.name, seed, variant.says)
            variants.run(variant, seed, arguments.out)
    if n == 1:
        print(report.write(arguments.out))


if __name__ == "__main__":
    main()
