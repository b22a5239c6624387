"""Metrics as Prometheus reads them from a real Ray, and the dashboard's queries for the same names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from contextlib import suppress
from types import SimpleNamespace

import pytest
import ray
import torch

from cluster.worker.metrics import STAGES, Metrics
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE, until

DASHBOARD = ROOT / "cluster" / "deploy" / "grafana-dashboard.json"
SERIES = re.compile(r"^(ray_originality\w+)\{(.*)\} (\S+)$")
Scraped = dict[tuple[str, str], float]
"""Value by name and by our one label, such as ``status=judged``; of a histogram the last bucket."""


@ray.remote(num_cpus=1)
class Judging:
    """Calls every method in a separate process, so that its numbers are separate too."""

    def work(self) -> str:
        """Ray's id of this process."""
        metrics, clock = Metrics(), SimpleNamespace(now=0.0)
        patch = pytest.MonkeyPatch()
        patch.setattr("cluster.worker.metrics.time", SimpleNamespace(perf_counter=lambda: clock.now))
        for status in ("judged", "judged", "rejected"):
            metrics.settled(status)
        for name in STAGES:
            with metrics.stage(name):
                pass
        with suppress(ZeroDivisionError), metrics.stage("step"):
            clock.now += 0.25
            1 / 0  # noqa: B018
        patch.undo()
        metrics.counted({"unet_samples": 160, "nothing": 0, "less": -1.0, "broken": float("nan")})
        metrics.counted({"unet_samples": 40.5})
        metrics.queue(7, 2)
        metrics.queue(5, 3)
        metrics.worker_died()
        metrics.duplicate()
        metrics.duplicate()
        # CUDA does not start here: torch's three answers, by hand
        cuda = SimpleNamespace(
            is_initialized=lambda: True, memory_allocated=lambda: 3 * 2**30, memory_reserved=lambda: 4 * 2**30
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
            metrics.gpu_memory()
        return str(ray.get_runtime_context().get_worker_id())


def scrape(worker: str) -> Scraped:
    """The metrics of one process, as this node serves them to Prometheus."""
    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        lines = answer.read().decode().splitlines()
    scraped: Scraped = {}
    for name, labels, value in (m.groups() for m in map(SERIES.match, lines) if m):
        if f'WorkerId="{worker}"' in labels and ('le="' not in labels or 'le="+Inf"' in labels):
            ours = re.search(r'\b(status|stage|what|kind)="([^"]*)"', labels)
            scraped[name, "=".join(ours.groups()) if ours else ""] = float(value)
    return scraped


@pytest.fixture(scope="module")
def scraped(local_ray: None) -> Scraped:
    """All metrics of a process, which it exports every ten seconds."""
    judging = Judging.remote()
    worker = ray.get(judging.work.remote())
    last = ("ray_originality_gpu_memory_bytes", "kind=reserved")
    until(lambda: last in scrape(worker), every=0.5)
    scraped = scrape(worker)
    ray.kill(judging)
    return scraped


def test_counters_count(scraped: Scraped) -> None:
    assert scraped["ray_originality_images_total", "status=judged"] == 2
    assert scraped["ray_originality_images_total", "status=rejected"] == 1
    assert scraped["ray_originality_worker_deaths_total", ""] == 1
    assert scraped["ray_originality_duplicates_total", ""] == 2


def test_costs_of_scoring_are_summed(scraped: Scraped) -> None:
    costs = {
        label: value for (name, label), value in scraped.items() if name == "ray_originality_scored_total"
    }
    assert costs == {"what=unet_samples": 200.5}


def test_gauges_hold_the_last(scraped: Scraped) -> None:
    assert scraped["ray_originality_queued", ""] == 5
    assert scraped["ray_originality_workers", ""] == 3
    assert scraped["ray_originality_gpu_memory_bytes", "kind=allocated"] == 3 * 2**30
    assert scraped["ray_originality_gpu_memory_bytes", "kind=reserved"] == 4 * 2**30


def test_stages_are_timed_also_when_they_fail(scraped: Scraped) -> None:
    counts = {s: scraped["ray_originality_stage_seconds_count", f"stage={s}"] for s in STAGES}
    assert counts == {"fetch": 1, "decode": 1, "admit": 1, "step": 2, "commit": 1}
    # Ray tells a sum by the middles of the buckets, here of 0.2 to 0.5 s and of 0 to 5 ms.
    assert 0.2 < scraped["ray_originality_stage_seconds_sum", "stage=step"] < 0.51
    assert scraped["ray_originality_stage_seconds_sum", "stage=fetch"] < 0.005


def test_the_dashboard_queries_only_exported_metrics(scraped: Scraped) -> None:
    board = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    requested = {name for query in queries for name in re.findall(r"\b(?:ray_)?originality_\w+", query)}
    exported = {name for name, _ in scraped}
    assert requested <= exported
    # a histogram is exported as three series, of which quantiles need one
    assert exported - requested <= {
        "ray_originality_stage_seconds_sum",
        "ray_originality_stage_seconds_count",
    }


def test_the_dashboard_selects_by_exported_labels(scraped: Scraped) -> None:
    board = json.loads(DASHBOARD.read_text())
    known = {"status", "stage", "what", "kind", "le", "SessionName"}
    for panel in board["panels"]:
        for target in panel["targets"]:
            grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
            selected = re.findall(r"(\w+)=~?\"", target["expr"])
            legend = re.findall(r"{{(\w+)}}", target["legendFormat"])
            assert {label for group in grouped for label in group.split(", ")} | {*selected, *legend} <= known


def test_harmless_without_ray_and_torch() -> None:
    script = """
import sys
from cluster.worker.metrics import Metrics
metrics = Metrics()
metrics.settled("judged")
with metrics.stage("step"):
    pass
metrics.counted({"unet_samples": 1})
metrics.queue(1, 1)
metrics.worker_died()
metrics.duplicate()
metrics.gpu_memory()
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_torch_without_cuda_is_not_measured() -> None:
    Metrics().gpu_memory()
    assert not torch.cuda.is_initialized()
