"""``originality estimate --predict``: what an audit would take, with no image judged and no weights there."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.settings import ClusterSettings
from jobs.auditing import predict
from jobs.cli import main
from jobs.commandline import exits
from originality.cost.flops import flops, format_flops, judging
from originality.cost.measured_counts import Measured, origin_of_counts, write
from originality.cost.operations import cost, protocol_counts
from originality.model.meta_model import Architecture
from originality.model.model_folder import open_model
from originality.settings.presets import load_settings


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    assert main(["estimate", "--predict", *argv]) == exits.ALL_JUDGED
    messages = capsys.readouterr()
    assert not messages.err
    return messages.out.splitlines()


def test_settings_without_measured_counts_give_both_extremes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "counts.json").write_text("{}")
    flags = ("--counts", str(tmp_path / "counts.json"), "--tflops", "0.01", "--max-tokens", "3")
    lines = output(capsys, "examples", *flags, "--set", "cluster.prices={CPU: 0.5}")
    settings = load_settings("laptop", None, {"max_tokens": 3})
    of_model = flops(Architecture.of_folder(open_model(settings.model)))
    of_metric = judging(settings.distance)
    one, most = (cost(protocol_counts(settings, m), of_model, of_metric) for m in (1, 3))
    assert lines[0].startswith("shapes (") and lines[0].endswith(f": {of_model}")
    assert lines[1].startswith(f"elements: {format_flops(of_metric)}")
    assert "1 token" in lines[2] and lines[2].endswith(f": {one}")
    assert "3" in lines[3] and lines[3].endswith(f": {most}")
    hours = 9 * most.total / 1e10 / 3600
    assert f" {9 / hours:.3g} images/h" in lines[5] and f" {hours:.3g} worker hours" in lines[5]
    assert f"${hours * 0.5:.3g} at $0.5" in lines[5]
    assert [line[:2] for line in lines[8:]] == ["- "] * len(lines[8:])  # assumptions
    assert "0.01 TFLOP/s" in lines[-1]


def test_measured_counts_are_used_for_a_different_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings("laptop")
    counts = protocol_counts(settings, 1.5)
    write({"laptop": Measured(counts=counts, images=60, settings=settings)}, tmp_path / "counts.json")
    flags = ("--counts", str(tmp_path / "counts.json"), "--family", "sd1")
    lines = output(capsys, *flags)
    assert lines[0].startswith("shapes (sd1") and "803 GFLOP" in lines[0]
    spent = cost(counts, flops(Architecture.of_family("sd1")), judging(settings.distance))
    assert "60 images" in lines[2] and lines[2].endswith(f": {spent}")
    assert "--tflops" in lines[3] and "1.67" in lines[3]
    assert lines[6].startswith("- ") and "1.5" in lines[6]


def test_only_the_same_settings_and_model_count_as_measured() -> None:
    settings = load_settings("laptop")
    source = Measured(counts=protocol_counts(settings, 1.5), images=60, settings=settings)
    assert origin_of_counts(source, settings).startswith("as measured on 60 images")
    other = settings.model_copy(update={"model": settings.model.model_copy(update={"path": "org/name"})})
    for it in (origin_of_counts(source, other), origin_of_counts(source, settings, "sd1")):
        assert it and it.startswith("carried over") and "60 images" in it


def test_a_worker_has_a_price_if_its_type_is_known() -> None:
    gpu, cpu = load_settings(), load_settings("laptop", None, {"model": {"device": "cpu"}})
    assert predict.price_of(gpu, ClusterSettings()) is None
    assert predict.price_of(cpu, ClusterSettings()) is None
    assert predict.price_of(cpu, ClusterSettings(prices={"CPU": 0.1, "L4": 0.8})) == 0.1
    assert predict.price_of(gpu, ClusterSettings(accelerators=("L4",))) == 0.8
    assert predict.price_of(gpu, ClusterSettings(prices={"H100": 3.0}, gpus_per_worker=0.5)) == 1.5
    spent = cost(protocol_counts(gpu, 1), flops(Architecture.of_folder(open_model(gpu.model))))
    assert "--accelerators L4" in str(predict.Pace(spent, 1.0, 10, None))


@pytest.mark.parametrize(
    "flags, message",
    [
        (("examples", "--tflops", "3"), "--tflops"),
        (("examples", "--family", "sd1"), "--family"),
        ((), "--predict"),
        (("--predict", "--tflops", "0"), "--tflops 0"),
        (("--predict", "--out", "x"), "--out"),
        (("--predict", "--family", "sd9"), "'sd9'"),
        (("--predict", "--model", "somebody/else"), "--family"),
        (("--predict", "--counts", "nowhere.json"), "nowhere.json"),
        (("nowhere", "--predict"), "nowhere"),
    ],
)
def test_mistakes_are_reported_in_one_line(
    flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", *flags]) == exits.BAD_SETTINGS
    messages = capsys.readouterr().err
    assert message in messages and messages.count("\n") == 1
