"""What the report says of the whole collection, if its run is a random sample."""

from __future__ import annotations

from cluster.inputs.manifest import InputError
from cluster.run.folder import RunFolder
from cluster.run.samples import sample_plans
from jobs.auditing.population import NEVER, estimates
from jobs.auditing.sampled import sampled
from originality.contract.config import SettingsError
from originality.report.data import Estimate, Estimates


def report_estimates(run: RunFolder) -> Estimates | None:
    """Shares by min tokens and the mean score with their intervals; None if the run is no random sample, or
    nothing of the sample is judged."""
    if not sample_plans(run):
        return None
    try:
        sample = sampled(run)
    except (SettingsError, InputError):
        return None
    found, _ = estimates(sample)
    if found["shares"] is None:
        return None
    rows = []
    for tokens, share in found["shares"].items():
        label = "not redrawn" if tokens == NEVER else f"{tokens} token{'' if tokens == '1' else 's'}"
        rows.append(Estimate(label, f"{share['value']:.1%}", f"{share['low']:.1%}", f"{share['high']:.1%}"))
    mean = found["mean_score"]
    rows.append(Estimate("mean score", f"{mean['value']:.2f}", f"{mean['low']:.2f}", f"{mean['high']:.2f}"))
    return Estimates(
        sample.text, tuple(rows), found["rejected"], found["failed"], found["audit_more_to_halve"]
    )
