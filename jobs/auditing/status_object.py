"""The status of a run as one object, for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.run.folder import RunFolder
from cluster.run.samples import sample_plans
from cluster.storage.heartbeat import pulses


def status_object(folder: RunFolder, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Counts of summary.json as of now, the run's URL and age, and the last heartbeats of its drivers.

    ``sample`` is the newest random sample, null if there is none.
    """
    drivers = [
        {"alive": pulse.alive, "seconds_ago": round(pulse.age, 1), **pulse.state}
        for pulse in pulses(folder.store)
    ]
    created = folder.description.get("created_at")
    plans = sample_plans(folder)
    sample = {"text": plans[-1].text, **plans[-1].values} if plans else None
    return {
        "run": folder.store.url,
        "created_at": created,
        "sample": sample,
        **summary,
        "drivers": drivers,
    }
