"""Statistics of missing elements."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from originality.experiments.report import diversity_report
from originality.experiments.tasks.plans import ElementsPlan, ModelPlan
from tests.support.kept_records import measured


def test_frequencies_of_missing_elements():
    records = [measured(60, 0, 0.9, 0.1), measured(60, 1, 0.7, 0.3), measured(4, 0, 0.0, 0.0)]
    summary = diversity_report.summarise(records)
    assert list(summary) == ["4", "60"]
    assert summary["60"]["images prompted"]["mean"] == 0.8 and summary["60"]["images empty"]["mean"] == 0.2
    half = float(stats.t.ppf(0.975, 1)) * 0.1  # of two models that are 0.1 from their mean
    assert summary["60"]["elements gain"]["interval"][0] < 0 < summary["60"]["elements gain"]["mean"]
    assert diversity_report.mean_of([0.9, 0.7]) == pytest.approx((0.8 - half, 0.8 + half))
    assert summary["60"]["images prompted"]["interval"] == (0.0, 1.0)
    assert summary["4"]["images prompted"]["interval"] == (0.0, 1.0)  # one model
    low, high = diversity_report.share([0.0, 0.0, 0.0, 0.0], 400)
    assert low == 0 and 0.005 < high < 0.02  # Wilson's interval of 400 draws
    assert summary["60"]["relative empty"]["mean"] == pytest.approx(
        np.mean([10 / (60 / 58), 30 / (60 / 58)]), abs=1e-3
    )
    share = summary["60"]["elements empty"]["mean"]
    assert share == pytest.approx(np.mean([10 / 80, 30 / 120]), abs=1e-3)
    one = summary["4"]["well formed empty"]
    assert one == pytest.approx(60 / 100)
    assert (summary["60"]["score of missing prompted"], summary["60"]["score of missing empty"]) == (0.9, 0.7)
    assert summary["4"]["score of missing empty"] is None  # there are none
    assert summary["4"]["elements gain"]["interval"] is None  # of one model
    json.dumps(summary, allow_nan=False)


def test_shares_of_elements():
    plan = ElementsPlan(kind="elements", missing=("big red full square", "big blue full circle"))
    model = ModelPlan(name="elements-60-0", images=plan)
    shares = diversity_report.shares_by_element(measured(60, 0, 0.9, 0.2), model)
    assert len(shares["empty"]["shown"]) == 58 and sum(shares["empty"]["shown"]) == pytest.approx(60 / 100)
    assert shares["empty"]["missing"] == pytest.approx([20 / 100] * 2)
    assert shares["prompted"]["missing"] == pytest.approx([90 / 170] * 2)
    assert sum(shares["prompted"]["shown"]) == pytest.approx(60 / 170)
