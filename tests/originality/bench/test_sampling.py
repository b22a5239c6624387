"""Comparison of samplers on the same words and noise."""

from __future__ import annotations

import pytest

from originality.bench import samplers
from originality.experiments.held_out import Query
from originality.settings.audit import AuditSettings


@pytest.mark.long
def test_every_sampler_redraws_the_same_words(quick: AuditSettings) -> None:
    twice = [("dpm++", 3), ("dpm++", 3), ("pndm", 3)]  # the same name twice: drawn once
    found = samplers.measure(quick, [(Query("familiar", 300), 1), (Query("unseen", 300), 2)], twice)
    assert found["passes"] == {"dpm++ 3": 3, "pndm 3": 4}
    assert [(word["image_id"], word["tokens"]) for word in found["words"]] == [
        ("familiar 300", 1),
        ("unseen 300", 2),
    ]
    for word in found["words"]:
        assert list(word["distances"]) == ["dpm++ 3", "pndm 3", "other noise"]
        assert all(len(each) == 3 and all(0 <= d <= 1 for d in each) for each in word["distances"].values())
    again = samplers.measure(quick, [(Query("familiar", 300), 1)], twice[:1])
    assert again["words"][0]["distances"]["dpm++ 3"] == found["words"][0]["distances"]["dpm++ 3"]


def test_a_sampler_is_compared_with_the_first() -> None:
    first = [[0.1, 0.2, 0.3], [0.5, 0.4, 0.6]]
    words = [
        {
            "distances": {
                "a 3": own,
                "b 2": [x + 0.12 for x in own],
                "other noise": [x - 0.01 for x in own[::-1]],
            }
        }
        for own in first
    ]
    found = {"threshold": 0.3, "passes": {"a 3": 3, "b 2": 2}, "words": words}
    shifted, other = samplers.table(found).splitlines()[2:]
    assert [cell.strip() for cell in shifted.split("|")[1:-1]] == [
        *("b 2", "2", "1.00", "+0.120 ± 0.000", "0.120", "50%")
    ]
    cells = [cell.strip() for cell in other.split("|")[1:-1]]
    assert cells[:2] == ["a 3, other noise", "3"] and cells[3:] == ["-0.010 ± 0.000", "0.010", "100%"]
    assert float(cells[2]) == pytest.approx(0.60, abs=0.2)
