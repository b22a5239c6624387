"""Checks of metric and detector: their weights, and their time for an image."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from originality.contract.findings import Finding, failed, ok, skipped
from originality.evaluation.distance import dreamsim_published as published
from originality.evaluation.distance import load_distance
from originality.evaluation.distance.dreamsim_weights import cache_folder
from originality.evaluation.in_distribution import load_check
from originality.settings.audit import AuditSettings
from originality.settings.local_weights import Copies

_NOT_TIMED = "not timed, as the size of the model's images is unknown"


def metric(
    settings: AuditSettings, device: torch.device, copies: Copies, side: int | None, seconds: float
) -> Finding:
    """Check that the metric loads and returns finite distances. Its numbers include "ms_an_image".

    Args:
        side: side of the model's images in pixels; None if unknown.
        seconds: approximate limit for timing.
    """
    distance = load_distance(settings.distance, device, copies.distance)
    digest = distance.digest()
    text = f"{distance.name}, digest {digest}"
    if side is None:
        return ok(f"{text}; {_NOT_TIMED}", digest=digest)
    picture, blank = _pictures(side)
    query, other = distance.embed(np.stack([picture, blank]))
    itself, apart = distance.between(query, [query, other])
    taken = 1e3 * _each(distance.embed, picture, settings.redraw.count, seconds)
    text += f"; {taken:.3g} ms an image"
    numbers = {"digest": digest, "ms_an_image": taken}
    if not (np.isfinite(itself) and np.isfinite(apart)):
        return failed(f"{text}; its distances are not finite", "use --set distance.dtype=fp32", **numbers)
    return ok(text, **numbers, of_a_picture_from_itself=float(itself), of_a_picture_from_blank=float(apart))


def published_distances(
    settings: AuditSettings, device: torch.device, copies: Copies, given: Path | None
) -> Finding:
    """Check that DreamSim gives the distances that its authors publish for three pictures.

    Args:
        given: folder of the pictures. None: they are expected beside the metric's weights, and fetched if the
            weights were fetched too.
    """
    how = settings.distance
    if how.metric != "dreamsim" or how.branch != "ensemble":
        return skipped("distances are published only for DreamSim's ensemble")
    beside = copies.distance or (Path(how.folder) if how.folder else cache_folder())
    folder = given or beside / published.FOLDER
    hint = f"copy {', '.join(published.NAMES)} from {published.SOURCE} and give --dreamsim-pictures DIR"
    if published.missing(folder) and given is None and how.folder is None:
        try:
            published.fetch(folder)
        except OSError as error:
            return skipped(f"DreamSim's three pictures cannot be fetched ({error}): {hint}")
    if lacking := published.missing(folder):
        return skipped(f"{folder} lacks {', '.join(lacking)}: {hint}")
    found = published.measured(load_distance(how, device, copies.distance), folder)
    return compared(found, published.PUBLISHED, published.TOLERANCES[how.dtype])


def compared(found: Mapping[str, float], expected: Mapping[str, float], tolerance: float) -> Finding:
    """Compare measured with published distances, by name of picture."""
    numbers = {"measured": dict(found), "published": dict(expected), "tolerance": tolerance}
    text = f"DreamSim gives {_listed(found)}; published are {_listed(expected)}, each within {tolerance:g}"
    if published.off(found, expected) <= tolerance:
        return ok(text, **numbers)
    fix = "weights or pictures differ: fetch both again (originality models fetch dreamsim)"
    return failed(text, fix, **numbers)


def _listed(distances: Mapping[str, float]) -> str:
    return " and ".join(f"{distance:.4f} ({name})" for name, distance in distances.items())


def detector(
    settings: AuditSettings, device: torch.device, copies: Copies, side: int | None, seconds: float
) -> Finding:
    """Check that the detector of the in-distribution check loads and works. Arguments as for
    :func:`metric`."""
    judged, subject = settings.in_distribution, settings.selected_domain.edit_subject
    check = load_check(judged, subject, device, copies.detector)
    if check is None:
        return skipped("in_distribution.check is none")
    digest = check.digest()
    text = f"{judged.detector}, detects a {subject}" if check.wants_edits else judged.check
    text += f", digest {digest}"
    if side is None:
        return ok(f"{text}; {_NOT_TIMED}", digest=digest)
    picture, _ = _pictures(side)
    taken = 1e3 * _each(lambda images: check.score(images, images), picture, settings.redraw.count, seconds)
    return ok(f"{text}; {taken:.3g} ms an image", digest=digest, ms_an_image=taken)


def _pictures(side: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture with a black square on white, and a blank one, each uint8 (side, side, 3)."""
    blank = np.full((side, side, 3), 255, np.uint8)
    picture = blank.copy()
    picture[side // 4 : side // 2, side // 4 : side // 2] = 0
    return picture, blank


def _each(work: Callable[[np.ndarray], object], picture: np.ndarray, count: int, seconds: float) -> float:
    """Seconds per image in a batch of ``count``, as an audit has; in a batch of two if that would take too
    long."""
    taken = _seconds(work, np.stack([picture] * 2))  # also warms up
    if taken * count / 2 > seconds:
        return taken / 2
    return _seconds(work, np.stack([picture] * count)) / count


def _seconds(work: Callable[[np.ndarray], object], images: np.ndarray) -> float:
    started = time.perf_counter()
    work(images)  # returns results on the CPU, so a GPU has finished
    return time.perf_counter() - started
