"""Small sweeps: run images to their records, and compare records without their times."""

from __future__ import annotations

import numpy as np

from originality.contract.scorer import Item
from originality.settings.audit import AuditSettings
from originality.shapes.image_sets import TaughtSet
from originality.sweep.sweep import Sweep

TIMES = ("finished_at", "seconds")


def run(sweep: Sweep, *items: Item):
    """Judge these items and all that the sweep already holds; results by item id."""
    waiting, done = list(items), {}
    admitted = len(sweep.images)
    while waiting or admitted:
        while waiting and admitted < sweep.capacity:
            sweep.admit(waiting.pop(0))
            admitted += 1
        for finished in sweep.step():
            admitted -= 1
            done[finished.item_id] = finished
    return done


def timeless(record):
    """A record without its times."""
    row = {k: v for k, v in record.items() if k not in TIMES}
    row["sweep"] = [{k: v for k, v in a.items() if k not in TIMES} for a in row["sweep"]]
    return row


def item(k: int) -> Item:
    return Item(f"image-{k}", TaughtSet().scene(2, k).image())


def changed(settings: AuditSettings, **parts: dict) -> AuditSettings:
    """Settings with some fields of some of their parts changed."""
    values = settings.model_dump()
    return AuditSettings.model_validate({**values, **{k: {**values[k], **v} for k, v in parts.items()}})


class Grey:
    """A metric: the difference in mean brightness."""

    largest = 1.0

    def embed(self, images):
        return [float(image.mean()) / 255 for image in images]

    def between(self, query, redraws):
        return np.clip(8 * np.abs(np.array(redraws) - query), 0, 1)
