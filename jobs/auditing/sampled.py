"""What a run knows of a random sample of its inputs, and how they were drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.inputs.manifest import Manifest, Selection
from cluster.inputs.sampling import Strata, ranks
from cluster.run.folder import RunFolder
from cluster.run.samples import SamplePlan, freeze, sample_plans
from jobs.auditing.groups import check_column
from originality.contract.config import SettingsError
from originality.population.allocation import neyman_weights

PENDING, JUDGED, REJECTED, FAILED = 0, 1, 2, 3
_STATUSES = {"judged": JUDGED, "rejected": REJECTED, "failed": FAILED}


@dataclass(frozen=True)
class Outcomes:
    """What became of some inputs."""

    status: np.ndarray
    """int64 (n,): PENDING, JUDGED, REJECTED or FAILED."""
    tokens: np.ndarray
    """int64 (n,): min tokens of judged inputs; one more than the most tokens for never, 0 if not judged."""
    score: np.ndarray
    """float64 (n,): of judged inputs, min tokens where rows of earlier versions have none; else 0."""
    most: int
    """The most tokens that were tried."""

    def take(self, places: np.ndarray) -> Outcomes:
        """Those of some of the inputs."""
        return Outcomes(self.status[places], self.tokens[places], self.score[places], self.most)


@dataclass(frozen=True)
class Sampled:
    """A random sample of a run's inputs of which all are settled, and how it was drawn."""

    numbers: np.ndarray
    """int64 (n,): of the inputs."""
    outcomes: Outcomes
    strata: Strata
    """By which it was drawn; a single one for a simple sample."""
    plan: SamplePlan | None
    """None if every input of the run is settled, sampled or not."""
    planned: int
    """Inputs of the sample when it is complete."""
    unused: int
    """Settled inputs of the sample that come after a pending one in the order of the sample. They are left
    out: images that take long would be missing among them."""

    @property
    def text(self) -> str:
        """For people: of what this is a sample."""
        if self.plan is None:
            return f"all {len(self.numbers)} inputs of the collection, so nothing is left to chance"
        settled = len(self.numbers)
        missing = "" if settled == self.planned else f"; {settled} of them count so far"
        # Earlier samples that fit in belong to it, so it may be larger than the newest plan.
        return f"{replace(self.plan, size=self.planned).text}{missing}"


def frozen(run: RunFolder, selection: Selection) -> Selection:
    """A selection whose sample is kept in the run, with the weights that it has from now on.

    Raises:
        SettingsError: Neyman allocation without judged inputs.
        InputError: the sample cannot be stratified so.
    """
    if selection.sample is None:
        return selection
    if selection.allocation == "neyman" and selection.by is not None:
        selection = replace(selection, weights=_neyman(run, selection))
    selection.sampled(run.manifest)
    plan = freeze(run, SamplePlan.of(selection, len(run.manifest)))
    return replace(selection, weights=plan.weights)


def noted(selection: Selection) -> dict[str, Any]:
    """What run.json says of the sample that a run is planned for."""
    if selection.sample is None:
        return {}
    by = selection.by
    sample = {"kind": "random", "size": selection.sample, "seed": selection.seed, "by": by}
    return {"sample": {**sample, "allocation": selection.allocation if by else None}}


def check_sample(selection: Selection, manifest: Manifest) -> None:
    """Check that a collection which is planned for the first time can be sampled so.

    Raises:
        SettingsError: Neyman allocation, which needs judged inputs.
        InputError: the sample cannot be stratified so.
    """
    if selection.sample is None or selection.by is None:
        return
    if selection.allocation == "neyman":
        raise SettingsError(_no_pilot(selection))
    selection.sampled(manifest)


def sample_text(run: RunFolder) -> str | None:
    """For people: the newest random sample of a run; None if it has none."""
    plans = sample_plans(run)
    return plans[-1].text if plans else None


def sampled(run: RunFolder) -> Sampled:
    """The sample of a run: the newest one, with earlier ones that fit in.

    Keys of inputs do not depend on a sample's size or strata, so samples of one seed that are simple or by
    the same column are one sample: in each stratum the smallest keys.

    Raises:
        SettingsError: nothing is settled, or what is settled is no random sample.
    """
    count = len(run.manifest)
    every = outcomes(run, np.arange(count))
    settled = every.status != PENDING
    one = Strata(("",), np.zeros(count, np.int64))
    plans = sample_plans(run)
    if settled.all():
        strata = run.manifest.strata(plans[-1].by) if plans and plans[-1].by else one
        return Sampled(np.arange(count), every, strata, None, count, 0)
    if not settled.any():
        raise SettingsError(f"{run.store.url} has no verdict yet; run the audit first")
    if not plans:
        raise SettingsError(
            f"{run.store.url}: the {settled.sum()} of {count} inputs that are settled are not a random "
            "sample; add --sample N to the audit command (verdicts are kept), or finish it without --limit "
            "and --shard"
        )
    newest = plans[-1]
    alike = [plan for plan in plans if plan.seed == newest.seed and plan.by in (None, newest.by)]
    planned = np.zeros(count, bool)
    for plan in alike:
        planned[plan.selection.sampled(run.manifest)] = True
    strata = run.manifest.strata(newest.by) if newest.by else one
    rank = ranks(newest.seed, strata.codes)
    first_open = np.full(len(strata.names), count)
    np.minimum.at(first_open, strata.codes[~settled], rank[~settled])
    chosen = np.flatnonzero(planned & settled & (rank < first_open[strata.codes]))
    if not len(chosen):
        raise SettingsError(
            f"{run.store.url}: the first input of the sample is pending; run the same audit again to resume"
        )
    unused = int((planned & settled).sum()) - len(chosen)
    return Sampled(chosen, every.take(chosen), strata, newest, int(planned.sum()), unused)


def outcomes(run: RunFolder, numbers: np.ndarray) -> Outcomes:
    """What became of some inputs. An image that is listed twice counts for both."""
    ids = run.identities.image_ids().take(pa.array(numbers))
    columns = ["image_id", "status", "min_tokens", "censored", "score", "max_tokens"]
    rows = {
        row["image_id"]: (
            _STATUSES[row["status"]],
            row.get("min_tokens"),
            row.get("score"),
            row.get("max_tokens") or 0,
        )
        for row in run.ledger.rows(columns, of=ids.unique())
    }
    settings = run.description.get("settings") or {}
    most = settings.get("max_tokens") or max((row[3] for row in rows.values()), default=1)
    blank = (PENDING, None, None, 0)
    found = [rows.get(image_id, blank) for image_id in ids.to_pylist()]
    status = np.array([row[0] for row in found], np.int64)
    needed = [most + 1 if row[1] is None else row[1] for row in found]
    tokens = np.where(status == JUDGED, np.array(needed, np.int64), 0)
    score = np.array([need if row[2] is None else row[2] for need, row in zip(needed, found, strict=True)])
    return Outcomes(status, tokens, np.where(status == JUDGED, np.clip(score, 1, most + 1), 0.0), most)


def known_strata(run: RunFolder, column: str) -> Strata:
    """The inputs of a run by their values in a column.

    Raises:
        SettingsError: as of :func:`jobs.auditing.groups.check_column`.
        InputError: its values cannot be shown as text.
    """
    check_column(run, column)
    return run.manifest.strata(column)


def _neyman(run: RunFolder, selection: Selection) -> tuple[tuple[str, float], ...]:
    """The weight of each stratum, from what is judged."""
    assert selection.by is not None
    strata = run.manifest.strata(selection.by)
    every = outcomes(run, np.arange(len(run.manifest)))
    judged = np.flatnonzero(every.status == JUDGED)
    if len(judged) < 2:
        raise SettingsError(_no_pilot(selection))
    weights = neyman_weights(every.score[judged], strata.codes[judged], strata.sizes)
    return tuple(zip(strata.names, weights.tolist(), strict=True))


def _no_pilot(selection: Selection) -> str:
    return (
        "--allocation neyman needs the spread of scores in each stratum: first audit a smaller --sample with "
        f"--by {selection.by}, whose verdicts this one re-uses"
    )
