"""Write docs/paper.md, the page of the paper's experiments, from their committed results."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Run ``python -m jobs.paper``."""
    from originality.experiments.report.page import write

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("docs/paper/results"),
        help="folder of the committed results (default: docs/paper/results)",
    )
    parser.add_argument(
        "--page", type=Path, default=Path("docs/paper.md"), help="page to write (default: docs/paper.md)"
    )
    arguments = parser.parse_args()
    try:
        print(write(arguments.results, arguments.page))
    except FileNotFoundError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
