"""Coverage of every interval of a collection's estimates: python -m tests.population --out FILE.json

Collections of known truth, samples by the sampling of an audit. Collections that the file has for the same
code are not simulated again. README.md beside the file is the page of the results.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
from pathlib import Path
from typing import Any

from cluster.inputs import sampling
from originality.population import allocation, intervals, proxy, stratified
from tests.population import designs
from tests.population import populations as collections
from tests.population.designs import measure
from tests.population.page import plot, write_page
from tests.population.populations import populations

DRAWS = 10_000
SAMPLES = (50, 100, 400)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.population", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/population/results.json"))
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--report", action="store_true", help="only write page and figure from the file")
    given = parser.parse_args()
    found = simulate(given.out, given.draws) if not given.report else json.loads(given.out.read_text())
    plot(found["rows"], given.out.with_name("coverage.png"))
    write_page(found, given.out.with_name("README.md"))


def simulate(out: Path, draws: int) -> dict[str, Any]:
    """The results of all collections, written after each; what the file has is not simulated again."""
    found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    key = {"code": code_digest(), "draws": draws}
    if found.get("of") != key:
        found = {"of": key, "rows": []}
    done = {row["population"] for row in found["rows"]}
    for population in populations():
        if population.name in done:
            continue
        found["rows"] += measure(population, SAMPLES, draws)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{population.name} done", flush=True)
    return found


def code_digest() -> str:
    """Digest of the code that decides the results, without comments and docstrings."""
    modules = (sampling, allocation, intervals, proxy, stratified, designs, collections)
    sources = "".join(_bare(Path(str(module.__file__)).read_text(encoding="utf-8")) for module in modules)
    return hashlib.sha256(sources.encode()).hexdigest()[:16]


def _bare(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            texts = [
                of for of in node.body if isinstance(of, ast.Expr) and isinstance(of.value, ast.Constant)
            ]
            node.body = [of for of in node.body if of not in texts] or [ast.Pass()]
    return ast.unparse(tree)


if __name__ == "__main__":
    main()
