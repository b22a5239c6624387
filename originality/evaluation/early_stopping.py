"""When an evaluation may stop rendering: once the outcome of all redraws is certain from those seen so far.

Pure functions of the values seen: :func:`certain` for the mean distance, :func:`share_certain` for the share
of edit images that show their subject.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STAKE = 0.95
"""Part of the wealth that each bet risks, in (0, 1). Of so few values, cautious bets need too many: of 20
redraws, the mean wealth of bettors at 0.25, 0.5 and 0.75 needs a tenth more than this one."""


def certain(
    values: Sequence[float], total: int, threshold: float, largest: float, confidence: float
) -> bool | None:
    """Whether the mean of all ``total`` values is under the threshold, judged from the first of them.

    Given all values, their order is exchangeable: those seen are a sample without replacement. If the mean
    is not under the threshold, a bettor who wins on small values, at odds that are fair at the threshold, has
    a wealth that is a nonnegative supermartingale starting at 1; if it is under it, so has one who wins on
    large values (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting", on
    sampling without replacement). Whichever hypothesis is true, the wealth that it bounds ever reaches
    1 / (1 - confidence) with probability at most 1 - confidence (Ville's inequality). So **with probability
    at least ``confidence`` over the order, the answer is the one that all values give, however often one
    looks**.

    Args:
        values: float64, each in [0, largest], in the order in which they were measured.
        total: number of values once all are measured.
        confidence: in (0, 1).

    Returns:
        True if the mean is under the threshold, False if it is not, None if that is not yet known. An answer
        is dropped (None) only while the mean of the values seen contradicts it, and reversed only by what
        is certain whatever the remaining values are. With all values, and wherever the remaining ones cannot
        change it, the answer is exactly ``np.mean(all values) < threshold``. A value that is outside of
        [0, largest] or NaN breaks the assumption: None until all values are there.

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
    # A rounded sum does not decrease when one of its terms grows. The smallest and the largest values that
    # may follow therefore bound the mean as NumPy rounds it, and the answer is exact, not nearly so.
    if not np.mean(np.append(seen, np.zeros(left))) < threshold:
        return False
    if np.mean(np.append(seen, np.full(left, largest))) < threshold:
        return True
    answer = _winner(seen.tolist(), total, threshold, largest, 1 / (1 - confidence))
    if answer is not None and answer != bool(np.mean(seen) < threshold):
        # A bettor reached the goal earlier in the round, and the rest of the round turned the mean. A record
        # would then say "passed" beside a mean that does not pass, so more values are measured first.
        return None
    return answer


def _winner(
    values: Sequence[float], total: int, threshold: float, largest: float, goal: float
) -> bool | None:
    """Bettor that reached the goal first: on small values (True), on large ones (False); None if neither.

    Both cannot reach it at the same value, since each value raises the wealth of at most one of them.
    """
    small = large = 1.0
    rest = total * threshold
    for k, value in enumerate(values):
        # Mean of the values that are left if the mean of all were the threshold.
        fair = min(max(rest / (total - k), 0.0), largest)
        if fair < largest:
            small *= 1 + STAKE * (fair - value) / (largest - fair)
        if fair > 0:
            large *= 1 + STAKE * (value - fair) / fair
        if max(small, large) >= goal:
            return small > large
        rest -= value
    return None


def share_certain(hits: Sequence[bool], total: int, least: float, confidence: float) -> bool | None:
    """Whether the share of hits among all ``total`` is at least ``least``, judged from the first of them.

    Guarantee and errors as for :func:`certain`; with all hits, the answer is ``np.mean(hits) >= least``.
    """
    under = certain([float(hit) for hit in hits], total, least, 1.0, confidence)
    return None if under is None else not under
