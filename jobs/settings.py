"""Lists every setting of the audit and of the engine: default, unit, what it decides, and source.

``originality settings``. On a terminal it is a table; to a pipe or file, one line a setting with columns
separated by tabs. ``--preset NAME`` adds the values of that preset. ``--json-schema`` prints the schema of
settings files, with which editors complete and check them::

    originality settings --json-schema > settings.schema.json

and as the first line of a settings file ``# yaml-language-server: $schema=settings.schema.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cluster.settings import REJECTS, ClusterSettings
from jobs.commandline import exits
from originality.contract.printable import unescaped
from originality.settings.audit import AuditSettings, DomainMissing
from originality.settings.domains import DOMAINS
from originality.settings.presets import DEFAULT_PRESET, PRESETS, load_settings
from originality.settings.roles import Decides, Knob, knobs

ENGINE = "cluster"
"""Key of the engine's settings in a settings file."""
_REQUIRED = "(must be given)"


@dataclass(frozen=True)
class Row:
    """One setting as it is listed."""

    path: str
    """As ``--set`` takes it: "inversion.steps"."""
    default: str
    """YAML on one line, as ``--set`` takes it."""
    unit: str
    decides: str
    source: str
    description: str
    preset: str | None = None
    """Value in the chosen preset; None where none is chosen, or the engine's, which presets leave alone."""


def rows(preset: str | None = None) -> Iterator[Row]:
    """All settings, those of the audit first.

    Raises:
        SettingsError: there is no such preset.
    """
    values = _values(preset) if preset else None
    for knob in knobs(AuditSettings):
        yield _row(knob, decides(knob), None if values is None else _written(_at(values, knob.path)))
    for knob in knobs(ClusterSettings, f"{ENGINE}."):
        yield _row(knob, f"{REJECTS}, cost" if REJECTS in knob.field.metadata else "cost, speed", None)


def decides(knob: Knob) -> str:
    """The roles of a setting of the audit, in words."""
    roles = knob.decides or Decides.NOTHING
    return ", ".join(str(role.name).lower().replace("_", " ") for role in roles) or "nothing"


def schema() -> dict[str, Any]:
    """JSON schema of a settings file: the audit's settings, a preset, and the engine's settings."""
    file, engine = AuditSettings.model_json_schema(), ClusterSettings.model_json_schema()
    file["$defs"].update(engine.pop("$defs", {}))
    file["$defs"]["ClusterSettings"] = engine
    file["properties"]["preset"] = {
        "enum": list(PRESETS),
        "default": DEFAULT_PRESET,
        "description": "The preset whose values hold where this file sets none.",
    }
    file["properties"][ENGINE] = {"$ref": "#/$defs/ClusterSettings"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **file, "title": "Settings file"}


def _values(preset: str) -> dict[str, Any]:
    try:
        return load_settings(preset).model_dump(mode="json")
    except DomainMissing:  # the preset leaves the domain to the user, and any will do for the others
        known = load_settings(preset, flags={"domain": next(iter(DOMAINS))})
        return {**known.model_dump(mode="json"), "domain": _REQUIRED}


def _at(values: dict[str, Any], path: str) -> Any:
    value: Any = values
    for name in path.split("."):
        value = value[name]
    return value


def _written(value: Any) -> str:
    """A value in YAML on one line. A text is quoted only if YAML would read it as something else, as it reads
    ``off`` as false."""
    plain = to_jsonable_python(value)
    return plain if isinstance(plain, str) and yaml.safe_load(plain) == plain else json.dumps(plain)


def _row(knob: Knob, role: str, preset: str | None) -> Row:
    facts = knob.unit or "", role, knob.source or ""
    return Row(knob.path, _written(knob.default), *facts, knob.description, preset)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--preset", metavar="NAME", help=f"show its values too; one of {', '.join(PRESETS)}")
    choice.add_argument("--json-schema", action="store_true", help="print the schema of settings files")


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    if arguments.json_schema:
        print(json.dumps(schema(), indent=2))
    elif sys.stdout.isatty():
        _show(list(rows(arguments.preset)), arguments.preset)
    else:
        _print_lines(rows(arguments.preset), arguments.preset)
    return exits.ALL_JUDGED


def _print_lines(listed: Iterator[Row], preset: str | None) -> None:
    extra = [preset] if preset else []
    print("\t".join(("setting", "default", *extra, "unit", "decides", "source", "description")))
    for row in listed:
        value = [row.preset or ""] if preset else []
        about = row.unit, row.decides, row.source, row.description
        print("\t".join((row.path, row.default, *value, *about)))


def _show(listed: Sequence[Row], preset: str | None) -> None:
    """The settings on a terminal: a line of values for each, its description beneath."""
    console = Console()
    with console.capture() as drawn:
        for row in listed:
            console.print(_headline(row, preset))
            console.print(Padding(Text(row.description), (0, 0, 0, 4)))
            facts = [f"unit: {row.unit}"] if row.unit else []
            facts += [f"decides: {row.decides}", f"source: {row.source}"]
            console.print(Padding(Text(" · ".join(facts), style="dim"), (0, 0, 1, 4)))
        console.print(f"Without --preset an audit uses the preset {DEFAULT_PRESET}.", highlight=False)
    unescaped(sys.stdout).write(drawn.get())  # all texts are this package's own


def _headline(row: Row, preset: str | None) -> Table:
    line = Table.grid(padding=(0, 2, 0, 0))
    cells = [Text(row.path, style="bold"), Text(row.default)]
    if preset and row.preset is not None:
        changed = row.preset != row.default
        cells.append(Text(f"{preset}: {row.preset}", style="bold yellow" if changed else "dim"))
    line.add_row(*cells)
    return line


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m jobs.settings``; the exit code."""
    return exits.main("originality settings", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
