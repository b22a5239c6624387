"""The queries of the documentation, on the run folder of a real audit's shape."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from jobs.auditing.audit_run import audit
from jobs.auditing.prepare import PreparedAudit
from originality.evaluation.verdict import Attempt
from originality.settings.presets import load_settings
from tests.support.mean_colour import MeanColour, paint
from tests.support.places import ROOT

PAGE = (ROOT / "docs" / "reference" / "run-folder.md").read_text()
README = (ROOT / "README.md").read_text()
QUERY = re.compile(r"```sql\n(.*?)```", re.DOTALL)


class Swept(MeanColour):
    def step(self) -> list[Any]:
        done = super().step()
        for one in done:
            attempt = Attempt(
                tokens=1,
                distance_mean=0.25,
                distance_sem=0.01,
                redraws=20,
                editability=None,
                editable=None,
                passed=True,
                inversion_steps=60,
                unet_samples=1080,
                seconds=1800.0,
            )
            one.record["sweep"] = [attempt.model_dump()]
        return done


@pytest.mark.long
def test_the_queries_of_the_documentation(tmp_path: Path, local_ray: None) -> None:
    for i in range(4):
        paint(tmp_path / "in", f"{i}.png", (i, i, i))
    paint(tmp_path / "in", "again.png", (0, 0, 0))
    (tmp_path / "in" / "text.png").write_text("no image")
    audit(PreparedAudit(load_settings(), Swept, {}), str(tmp_path / "in"), str(tmp_path / "run"))
    spread, known, wrong, short = (
        duckdb.sql(query.replace("s3://BUCKET/run", str(tmp_path / "run"))).fetchall()
        for query in (*QUERY.findall(PAGE), *QUERY.findall(README))
    )
    assert short == spread
    assert spread == [(1, False, 1), (2, False, 1), (3, False, 1), (4, False, 1)]
    assert sorted(known) == [(f"{tmp_path}/in/{name}.png", 0.25) for name in ("0", "again")]
    assert wrong == [("judged", 4, 2.0), ("not-an-image", 1, None)]
