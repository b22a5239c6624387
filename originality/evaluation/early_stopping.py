"""When an evaluation or an inversion may end: pure functions of what was seen so far.

An evaluation draws a pseudo-word again and again until it is :func:`certain` (:func:`share_certain`) what all
redraws would say. An inversion ends when its losses are :func:`settled`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STAKE = 0.95
"""Part of the wealth that a bet risks, in (0, 1). So few draws leave no time to win by little: of 20, the
mean wealth of bettors at 0.25, 0.5 and 0.75 needs a tenth more."""


def certain(
    values: Sequence[float], total: int, threshold: float, largest: float, confidence: float
) -> bool | None:
    """Whether the mean of all ``total`` values is under the threshold, asked when only some have been seen.

    Given all values, their order is exchangeable: those seen are a sample without replacement. If the mean
    is not under the threshold, a bettor who wins on small values, at odds that are fair at the threshold, has
    a wealth that is a nonnegative supermartingale from 1; if it is under it, so has one who wins on large
    values (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting", on
    sampling without replacement). Whichever hypothesis is true, the wealth that it bounds ever reaches
    1 / (1 - confidence) with probability 1 - confidence at most (Ville); so **with probability at least
    ``confidence`` over the order, the answer is the one that all values give, however often one looks**.

    Args:
        values: float64, each in [0, largest], in the order in which they were drawn.
        total: how many there will be.
        confidence: in (0, 1).

    Returns:
        True: it is under the threshold. False: it is not. None: not yet known. What has been answered is
        left open again only while the mean of those seen contradicts it, and turned only by what is certain
        of the whole. With all values there, and wherever no rest could change it, the answer is
        ``np.mean(all values) < threshold`` to the bit. A value outside of [0, largest], or none, breaks the
        assumption: None until all are there.

    Raises:
        ValueError: there are more than ``total`` values, or the confidence is not in (0, 1).
    """
    left = total - len(values)
    if left < 0:
        raise ValueError(f"{len(values)} values of {total}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} must lie between 0 and 1")
    seen = np.asarray(values, np.float64)
    if left and not ((seen >= 0) & (seen <= largest)).all():
        return None
    # Rounded sums grow with each of their terms, so the least and the largest rest bound the rounded mean.
    if not np.mean(np.append(seen, np.zeros(left))) < threshold:
        return False
    if np.mean(np.append(seen, np.full(left, largest))) < threshold:
        return True
    said = _won(seen.tolist(), total, threshold, largest, 1 / (1 - confidence))
    if said is not None and said != bool(np.mean(seen) < threshold):
        return None  # it would contradict the mean that is told: look again when there are more
    return said


def _won(values: Sequence[float], total: int, threshold: float, largest: float, goal: float) -> bool | None:
    """Which of two bettors reached the goal first: on small values (True), on large ones (False), or none.

    They cannot reach it at once, as each value raises the wealth of one of them at most.
    """
    small = large = 1.0
    rest = total * threshold
    for k, value in enumerate(values):
        fair = min(max(rest / (total - k), 0.0), largest)  # mean of what is left, were all's the threshold
        if fair < largest:
            small *= 1 + STAKE * (fair - value) / (largest - fair)
        if fair > 0:
            large *= 1 + STAKE * (value - fair) / fair
        if max(small, large) >= goal:
            return small > large
        rest -= value
    return None


def share_certain(hits: Sequence[bool], total: int, least: float, confidence: float) -> bool | None:
    """Whether the share of hits among all ``total`` is at least ``least``, asked when some have been seen.

    Guarantee and errors as of :func:`certain`: True means at least, so that with all hits there the answer
    is ``np.mean(hits) >= least``.
    """
    under = certain([float(hit) for hit in hits], total, least, 1.0, confidence)
    return None if under is None else not under
