"""Small sweeps: images through a sweep, and records without what a clock decides."""

from __future__ import annotations

import numpy as np

from originality.contract.scorer import Item
from originality.settings.audit import AuditSettings
from originality.shapes.image_sets import TaughtSet
from originality.sweep.sweep import Sweep

TIMES = ("finished_at", "seconds")


def run(sweep: Sweep, *items: Item):
    waiting, done = list(items), {}
    flying = len(sweep._images)
    while waiting or flying:
        while waiting and flying < sweep.capacity:
            sweep.admit(waiting.pop(0))
            flying += 1
        for finished in sweep.step():
            flying -= 1
            done[finished.item_id] = finished
    return done


def timeless(record):
    """A record without what a clock decides."""
    row = {k: v for k, v in record.items() if k not in TIMES}
    row["sweep"] = [{k: v for k, v in a.items() if k not in TIMES} for a in row["sweep"]]
    return row


def item(k: int) -> Item:
    return Item(f"image-{k}", TaughtSet().scene(2, k).image())


def changed(settings: AuditSettings, **parts: dict) -> AuditSettings:
    """The settings with others in some of their parts."""
    whole = settings.model_dump()
    return AuditSettings.model_validate({**whole, **{k: {**whole[k], **v} for k, v in parts.items()}})


class Grey:
    """How much darker or brighter one image is than another."""

    largest = 1.0

    def embed(self, images):
        return [float(image.mean()) / 255 for image in images]

    def between(self, query, redraws):
        return np.clip(8 * np.abs(np.array(redraws) - query), 0, 1)
