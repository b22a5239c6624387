"""``originality rejudge``: a run under other thresholds, in a separate folder, without a model."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.inputs.identities import image_id_of
from cluster.run.folder import RunFolder, RunMismatch, open_run, plan
from cluster.storage.store import open_store
from jobs import rejudge, retry
from jobs.auditing.audit_run import LATER_DEFAULTS, identity, plan_audit
from jobs.auditing.prepare import PreparedAudit
from jobs.auditing.report_data import write_report
from jobs.auditing.verdict_table import SCHEMA, summarise
from jobs.commandline import exits
from originality.contract.config import SettingsError
from originality.evaluation.confidence import PassRule
from originality.evaluation.rejudge import NEEDS_SWEEP
from originality.evaluation.verdict import Attempt, judge
from originality.settings.audit import AuditSettings
from originality.settings.presets import load_settings
from tests.support import example_runs
from tests.support.mean_colour import MeanColour
from tests.support.places import ROOT
from tests.support.sweeps import changed

OWN = load_settings("laptop")
MEANS = {"a.png": (0.1,), "b.png": (0.35, 0.25), "c.png": (0.5, 0.45, 0.4, 0.35, 0.32)}
"""Mean distances of 1, 2, ... tokens; the threshold is 0.3, so that the sweeps ended there."""


def prepared(settings: AuditSettings = OWN) -> PreparedAudit:
    return PreparedAudit(settings, MeanColour, {"model_digest": "abc"})


def attempt(tokens: int, mean: float) -> Attempt:
    values = tuple((mean + 0.02 * np.linspace(-1, 1, OWN.redraw.count)).tolist())
    found = example_runs.attempt(tokens, float(np.mean(values)), mean < OWN.distance.threshold)
    sem = float(np.std(values, ddof=1) / len(values) ** 0.5)
    return found.model_copy(update={"distances": values, "distance_sem": sem})


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    """A run of three judged images with pictures, and one that is no image."""
    source = tmp_path / "in"
    source.mkdir()
    for number, name in enumerate(MEANS):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(source / name)
    (source / "text.png").write_text("no image")
    out = open_store(str(tmp_path / "run"))
    run = plan(str(source), out, identity(prepared(), str(source)), later=LATER_DEFAULTS)
    for number in range(len(run.manifest)):
        name = run.manifest.path(number)
        image_id = image_id_of((source / name).read_bytes())
        run.identities.learn(number, image_id)
        if name not in MEANS:
            bad = example_runs.problem(image_id, "rejected", "not-an-image", "no image")
            run.ledger.commit(image_id, bad.row(), {})
            continue
        verdict = judge(
            image_id,
            [attempt(m, mean) for m, mean in enumerate(MEANS[name], 1)],
            max_tokens=OWN.max_tokens,
            model="shapes",
            settings_digest=OWN.digest(),
            rule=PassRule.of(OWN),
        )
        run.ledger.commit(image_id, verdict.row(), {"query.webp": b"picture", "tokens.safetensors": b"words"})
    run.identities.save()
    run.ledger.compact(SCHEMA)
    run.write_summary(summarise(run))
    write_report(run)
    return RunFolder(run.store)


def rows(run: RunFolder) -> dict[str, dict]:
    names = {str(run.identities[n]): run.manifest.path(n) for n in range(len(run.manifest))}
    return {names[row["image_id"]]: row for row in run.ledger.rows()}


def decisions(run: RunFolder) -> dict[str, tuple]:
    return {n: (r["status"], r["min_tokens"], r["error_class"]) for n, r in rows(run).items()}


def test_at_the_runs_own_threshold_nothing_changes(finished: RunFolder, tmp_path: Path) -> None:
    same, counts = rejudge.rejudge(finished, str(tmp_path / "same"), OWN.distance.threshold)
    assert rows(same) == rows(finished)
    assert counts == {"judged": 3, "rejected": 1}
    assert same.summary() == finished.summary()
    kept = {k: v for k, v in same.description.items() if k not in ("created_at", rejudge.FROM)}
    assert kept == {k: v for k, v in finished.description.items() if k != "created_at"}
    for row in rows(same).values():
        if row["status"] == "judged":
            assert same.store.read(f"{row['artefacts']}/query.webp") == b"picture"


def test_a_looser_threshold_decides_from_stored_results(finished: RunFolder, tmp_path: Path) -> None:
    loose, _ = rejudge.rejudge(finished, str(tmp_path / "loose"), 0.42, artefacts=False)
    found = decisions(loose)
    assert found == {
        "a.png": ("judged", 1, None),
        "b.png": ("judged", 1, None),
        "c.png": ("judged", 3, None),
        "text.png": ("rejected", None, "not-an-image"),
    }
    new = changed(OWN, distance={"threshold": 0.42})
    row = rows(loose)["c.png"]
    assert row["settings_digest"] == new.digest() == loose.description["settings_digest"]
    assert [a["passed"] for a in row["sweep"]] == [False, False, True]
    assert row["confidence"] > 0.9 and row["redrawn_at"] == 3
    assert not loose.store.exists(f"{row['artefacts']}/query.webp")
    assert "0.42" in (Path(loose.store.url) / "report" / "index.html").read_text()


def test_a_stricter_threshold_names_the_rows_that_need_a_longer_sweep(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rejudge.main([finished.store.url, "--threshold", "0.2"]) == exits.SOME_UNJUDGED
    shown = capsys.readouterr().out
    out = f"{finished.store.url}-threshold-0.2"
    assert f"2 judged, 1 rejected, 1 {NEEDS_SWEEP}" in shown and "1 row needs a longer sweep" in shown
    strict = open_run(out)
    assert decisions(strict)["b.png"] == ("failed", None, NEEDS_SWEEP)
    assert decisions(strict)["c.png"] == ("judged", None, None)  # all five numbers of tokens were tried
    summary = strict.summary()
    assert (summary["judged"], summary["failed"], summary["errors"][NEEDS_SWEEP]) == (2, 1, 1)
    assert "2 tokens no longer pass" in rows(strict)["b.png"]["error_message"]
    assert "--status failed" in (Path(out) / "report" / "index.html").read_text()


def test_the_rows_that_need_it_are_judged_by_the_audits_own_command(
    finished: RunFolder, tmp_path: Path
) -> None:
    strict, _ = rejudge.rejudge(finished, str(tmp_path / "strict"), 0.2)
    assert retry.main([strict.store.url, "--status", "failed", "--reason", NEEDS_SWEEP]) == 0
    settings = load_settings("laptop", None, {"distance": {"threshold": 0.2}})
    resumed = plan_audit(prepared(settings), str(tmp_path / "in"), strict.store.url)
    assert summarise(resumed)["pending"] == 1
    with pytest.raises(RunMismatch, match=r"distance\.threshold"):
        plan_audit(prepared(), str(tmp_path / "in"), strict.store.url)


def test_an_interrupted_call_is_resumed_and_a_different_threshold_refused(
    finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, written = str(tmp_path / "out"), []

    def cut(path: str) -> str:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        return real(path)

    real = rejudge.record_path
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rejudge, "record_path", cut)
        rejudge.rejudge(finished, out, 0.42)
    again, counts = rejudge.rejudge(finished, out, 0.42)
    assert counts == {"judged": 3, "rejected": 1} and len(rows(again)) == 4
    with pytest.raises(RunMismatch, match=r"0.42 -> 0.41"):
        rejudge.rejudge(finished, out, 0.41)
    with pytest.raises(RunMismatch):
        rejudge.rejudge(finished, finished.store.url, 0.42)


def test_the_check_has_a_threshold_as_well(finished: RunFolder, tmp_path: Path) -> None:
    strict, _ = rejudge.rejudge(finished, str(tmp_path / "check"), in_distribution=0.9)
    assert decisions(strict)["a.png"] == ("failed", None, NEEDS_SWEEP)  # the score is 0.87
    assert decisions(strict)["c.png"] == ("judged", None, None)
    assert rejudge.name_beside("runs/mine/", 0.4, 0.6) == "runs/mine-threshold-0.4-in-distribution-0.6"


@pytest.mark.parametrize(
    "arguments, output",
    [
        ([], "give --threshold"),
        (["--threshold", "-1"], "distance.threshold"),
    ],
)
def test_wrong_thresholds_are_refused(
    finished: RunFolder, arguments: list[str], output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rejudge.main([finished.store.url, *arguments]) == exits.BAD_SETTINGS
    assert output in capsys.readouterr().err


def test_a_run_of_an_older_version_is_refused_with_the_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = shutil.copytree(ROOT / "tests" / "data" / "run-581240f", tmp_path / "run")
    assert rejudge.main([str(older), "--threshold", "0.4"]) == exits.BAD_SETTINGS
    error = capsys.readouterr().err
    assert "keeps its distances" in error and "audit its collection again" in error
    assert not (tmp_path / "run-threshold-0.4").exists()
    with pytest.raises(SettingsError):
        rejudge.rejudge(open_run(str(older)), str(tmp_path / "out"), 0.4)


def test_no_model_is_loaded(finished: RunFolder) -> None:
    import subprocess

    code = (
        "import sys; from jobs import rejudge; "
        f"code = rejudge.main([{finished.store.url!r}, '--threshold', '0.42']); "
        "print(code, sorted({'diffusers', 'transformers', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith(f"{exits.SOME_UNJUDGED} []\n"), done.stderr
    assert (
        json.loads((Path(f"{finished.store.url}-threshold-0.42") / "summary.json").read_text())["judged"] == 3
    )
