"""Results as tasks of Label Studio, each with the verdict as a prediction, and a labelling configuration."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from cluster.run.folder import RunFolder
from cluster.storage.store import Store
from jobs.auditing.results_table import results_tables
from jobs.auditing.verdict_table import min_tokens_text

TASKS, CONFIG = "tasks.json", "config.xml"
_LOCAL = "/data/local-files/?d="
"""How Label Studio names a file below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, which is to be /."""
_FIELDS = ("score", "confidence", "reference_distance", "status", "error_class")


def write_tasks(run: RunFolder, store: Store) -> int:
    """Write tasks and configuration into a folder; the number of tasks.

    Images within containers have no address of their own, so their tasks name the container and its member.
    """
    tasks: list[dict[str, Any]] = []
    most = 1
    for table in results_tables(run):
        for row in table.drop_columns(["sweep"]).to_pylist():
            most = max(most, row["max_tokens"] or 1)
            tasks.append(_task(row))
    text = json.dumps(tasks, ensure_ascii=False, default=str, indent=1)
    store.write(TASKS, text.encode())
    store.write(CONFIG, _config(most).encode())
    return len(tasks)


def _task(row: dict[str, Any]) -> dict[str, Any]:
    uri = row["uri"]
    image = uri if "://" in uri else f"{_LOCAL}{quote(uri.lstrip('/'))}"
    task: dict[str, Any] = {"data": {**row, "image": image}}
    if row["status"] == "judged":
        choice = {
            "from_name": "min_tokens",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": [min_tokens_text(row)]},
        }
        prediction = {"model_version": row["model"], "score": row["confidence"], "result": [choice]}
        task["predictions"] = [prediction]
    return task


def _config(most: int) -> str:
    choices = "".join(f'    <Choice value="{value}"/>\n' for value in (*range(1, most + 1), "+"))
    about = "".join(f'  <Text name="{name}" value="{name}: ${name}"/>\n' for name in _FIELDS)
    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <Choices name="min_tokens" toName="image" choice="single">\n{choices}  </Choices>\n'
        f"{about}</View>\n"
    )
