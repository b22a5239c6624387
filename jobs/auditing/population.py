"""Estimates for a run's whole collection and its groups, from the inputs of its random sample.

An input that was rejected is no image that can be judged; estimates are of those that can, and their number
is estimated too. What a failed input would have needed is unknown: estimates leave failed ones out, and
bounds beside them count them at either end of the scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.inputs.sampling import Strata
from jobs.auditing.sampled import FAILED, JUDGED, REJECTED, Outcomes, Sampled
from originality.population.allocation import more_to_halve
from originality.population.intervals import Interval, share_interval
from originality.population.proxy import Proxy
from originality.population.stratified import Estimates, Sample, may_post_stratify, mean_estimates

NEVER = "never"
"""Key of the share of images that no number of tokens redrew."""
_SHARE = (0.0, 1.0)


@dataclass(frozen=True)
class _Part:
    """The sample of a part of the collection."""

    outcomes: Outcomes
    inside: np.ndarray
    """bool (n,): whether the unit is of the part."""
    strata: np.ndarray
    """int64 (n,): by which the units were drawn, or are weighed."""
    sizes: np.ndarray
    """int64 (strata,): inputs of the strata."""
    inputs: int
    """Inputs of the part."""
    proxy: Proxy | None = None

    @property
    def simple(self) -> bool:
        """Whether this is a simple sample without help, for which exact intervals exist."""
        return len(self.sizes) == 1 and self.proxy is None

    def estimate(self, values: np.ndarray, counted: np.ndarray, ends: tuple[float, float]) -> Estimates:
        """The mean of values among units that count, each (n,)."""
        sample = Sample(values.astype(float), counted & self.inside, self.strata, self.sizes)
        return mean_estimates(sample, ends, self.proxy)

    def share(self, has: np.ndarray, counted: np.ndarray) -> Interval:
        """The share of units with a property among those that count, each bool (n,)."""
        if not self.simple:
            return self.estimate(has, counted, _SHARE).interval
        among = counted & self.inside
        # How many inputs of the part count is unknown; the most there can be gives the wider interval.
        size = self.inputs - int((self.inside & ~counted).sum())
        return share_interval(int((has & among).sum()), int(among.sum()), size)


def estimates(
    sample: Sampled, by: Strata | None = None, proxy: np.ndarray | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Estimates for the collection, and for each value of a column, largest first.

    Args:
        sample: of the collection.
        by: its inputs by their values in the column.
        proxy: float64 (inputs,), NaN where unknown.

    Returns:
        Mappings as ``originality estimate-population --json`` prints them.
    """
    collection = described(_whole(sample, by, proxy))
    drawn = np.bincount(sample.strata.codes[sample.numbers], minlength=len(sample.strata.names))
    collection["strata_without_sample"] = [
        name for name, count in zip(sample.strata.names, drawn, strict=True) if not count
    ]
    if proxy is not None and collection["mean_score"] is not None:
        collection["proxy"] = _saved(sample, by, proxy)
    if by is None:
        return collection, []
    order = sorted(range(len(by.names)), key=lambda code: (-by.sizes[code], by.names[code]))
    return collection, [
        {"value": by.names[code], **described(_group(sample, by, code, proxy))} for code in order
    ]


def described(part: _Part) -> dict[str, Any]:
    """What is known of a part of the collection. Shares and means are None if nothing of it is judged."""
    status, most = part.outcomes.status, part.outcomes.most
    judged, failed = status == JUDGED, status == FAILED
    sampled = int(part.inside.sum())
    found: dict[str, Any] = {
        "inputs": part.inputs,
        "sampled": sampled,
        **{
            name: int((part.inside & (status == code)).sum())
            for name, code in (("judged", JUDGED), ("rejected", REJECTED), ("failed", FAILED))
        },
        "rejected_share": None,
        "shares": None,
        "mean_score": None,
        "audit_more_to_halve": more_to_halve(sampled, part.inputs) if sampled else None,
    }
    if sampled:
        every = np.ones(len(status), bool)
        found["rejected_share"] = _values(part.share(status == REJECTED, every))
    if not (judged & part.inside).any():
        return found
    ends = (1.0, most + 1.0)
    unknown = bool((failed & part.inside).any())
    shares = {}
    for tokens in range(1, most + 2):
        has, known = judged & (part.outcomes.tokens == tokens), judged | failed
        share = _values(part.share(has, judged))
        if unknown:
            share |= _at_worst(part.share(has, known), part.share(has | failed, known))
        shares[NEVER if tokens > most else str(tokens)] = share
    mean = part.estimate(part.outcomes.score, judged, ends)
    found["shares"] = shares
    found["mean_score"] = _values(mean.interval)
    if unknown:
        least, largest = (
            part.estimate(np.where(failed, end, part.outcomes.score), judged | failed, ends).interval
            for end in ends
        )
        found["mean_score"] |= _at_worst(least, largest)
    return found


def _whole(sample: Sampled, by: Strata | None, proxy: np.ndarray | None) -> _Part:
    """The whole collection, weighed by the strata of the sample, or by those of a column where that helps."""
    strata = sample.strata
    if len(strata.names) == 1 and by is not None:
        counts = np.bincount(by.codes[sample.numbers], minlength=len(by.names))
        strata = by if may_post_stratify(counts) else strata
    inside = np.ones(len(sample.numbers), bool)
    codes = strata.codes[sample.numbers]
    beside = None if proxy is None else Proxy.of(proxy, strata.codes, sample.numbers)
    return _Part(sample.outcomes, inside, codes, strata.sizes, len(strata.codes), beside)


def _group(sample: Sampled, by: Strata, code: int, proxy: np.ndarray | None) -> _Part:
    """The inputs with one value of a column."""
    inside = by.codes[sample.numbers] == code
    members = np.flatnonzero(by.codes == code)
    strata = sample.strata.codes[members]
    if len(members) and (strata == strata[0]).all():
        # All of one stratum: what was drawn of them is a simple random sample of them.
        places = np.flatnonzero(inside)
        mine = np.searchsorted(members, sample.numbers[places])
        zero = np.zeros(len(members), np.int64)
        beside = None
        if proxy is not None and len(places) > 2 and np.isfinite(proxy[members]).any():
            beside = Proxy.of(proxy[members], zero, mine)
        some = np.ones(len(places), bool)
        return _Part(
            sample.outcomes.take(places), some, zero[mine], np.array([len(members)]), len(members), beside
        )
    codes = sample.strata.codes[sample.numbers]
    beside = None if proxy is None else Proxy.of(proxy, sample.strata.codes, sample.numbers)
    return _Part(sample.outcomes, inside, codes, sample.strata.sizes, len(members), beside)


def _saved(sample: Sampled, by: Strata | None, proxy: np.ndarray) -> dict[str, Any]:
    """What the proxy is worth for the mean score of the collection."""
    aided, alone = (_whole(sample, by, given) for given in (proxy, None))
    judged = sample.outcomes.status == JUDGED
    ends = (1.0, sample.outcomes.most + 1.0)
    with_it, without = (part.estimate(sample.outcomes.score, judged, ends) for part in (aided, alone))
    more = float(with_it.effective) / float(without.effective) - 1 if without.effective > 0 else 0.0
    return {
        "known": int(np.isfinite(proxy).sum()),
        "mean_score_without": _values(without.interval),
        "audits_saved": max(0, round(more * len(sample.numbers))),
    }


def _values(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _at_worst(least: Interval, largest: Interval) -> dict[str, float]:
    """Bounds that hold whatever the failed inputs would have needed."""
    return {"low_with_failed": least.low, "high_with_failed": largest.high}
