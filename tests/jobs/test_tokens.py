"""Pseudo-words of a real sweep, exported and loaded by diffusers."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from cluster.inputs.identities import image_id_of
from cluster.run.folder import RunFolder, open_run, plan
from cluster.run.record import artefacts_of
from cluster.storage.store import open_store
from jobs.cli import main
from jobs.commandline import exits
from jobs.tokens import COLUMNS, INDEX, export
from originality.contract.config import SettingsError
from originality.contract.scorer import Item
from originality.evaluation.verdict import Verdict
from originality.model.diffusers_folder import MODELS
from originality.model.diffusion import LatentDiffusion
from originality.model.noise_schedule import SCHEDULERS
from originality.model.randomness import keyed_generator
from originality.settings.audit import AuditSettings
from originality.settings.redraw import RedrawSettings
from originality.sweep.sweep import Sweep
from tests.support.places import EXAMPLES


@pytest.fixture(scope="module")
def run(quick: AuditSettings, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two images, one of them twice, with a short sweep that neither passes, and one that failed."""
    source = tmp_path_factory.mktemp("in")
    for name in ("familiar-1.png", "unseen-1.png"):
        shutil.copy(EXAMPLES / name, source)
    shutil.copy(EXAMPLES / "unseen-1.png", source / "zz copy.png")
    (source / "failed.png").write_bytes(b"none")
    run = plan(str(source), open_store(str(tmp_path_factory.mktemp("out"))), {"model": "shapes"})
    never = quick.model_copy(update={"distance": quick.distance.model_copy(update={"threshold": 0.0})})
    sweep = Sweep(never)
    for number in range(len(run.manifest)):
        file = source / run.manifest.path(number)
        image_id = image_id_of(file.read_bytes())
        run.identities.learn(number, image_id)
        if file.name == "failed.png":
            run.ledger.commit(image_id, Verdict(image_id=image_id, status="failed").row(), {})
        elif not run.ledger.has_record(image_id):
            sweep.admit(Item(image_id, Image.open(file)))
            while not (finished := sweep.step()):
                pass
            run.ledger.commit(image_id, finished[0].record, finished[0].files)
    run.identities.save()
    return open_run(run.store.url)


def index(folder: Path) -> list[dict[str, str]]:
    with (folder / INDEX).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(tuple(row) == COLUMNS for row in rows)
    return rows


def _exported(
    run: RunFolder, to: Path, images: Sequence[str] = (), tokens: int | None = None
) -> list[dict[str, str]]:
    export(run, open_store(str(to)), images, tokens)
    return index(to)


@pytest.mark.long
def test_an_exported_pseudo_word_gives_the_same_redraws(
    run: RunFolder, model: LatentDiffusion, tmp_path: Path
) -> None:
    assert main(["tokens", "export", run.store.url, "--to", str(tmp_path)]) == exits.ALL_JUDGED
    row = index(tmp_path)[0]
    assert row["uri"].endswith("familiar-1.png") and row["tokens"] == "2"
    folder = artefacts_of(run.ledger.record(row["image_id"]))
    learned = safetensors.torch.load(run.store.read(f"{folder}/tokens.safetensors"))["<s2>"]
    pipe = StableDiffusionPipeline.from_pretrained(MODELS / "shapes", use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_textual_inversion(tmp_path, weight_name=row["file"], token="<house>", use_safetensors=True)
    kind, extra = SCHEDULERS["dpm++"]
    pipe.scheduler = kind.from_config(pipe.scheduler.config, **extra)
    noise = torch.randn((2, *model.latent_shape), generator=keyed_generator("noise"))
    theirs = pipe(
        "a photo of <house>",
        num_images_per_prompt=2,
        num_inference_steps=4,
        guidance_scale=3.0,
        latents=noise.clone(),
        output_type="np",
    ).images
    settings = RedrawSettings(count=2, steps=4, scheduler="dpm++", guidance_scale=3.0)
    ours = model.redraw("a photo of {}", learned, noise, settings)
    assert np.abs(ours.astype(int) - (theirs * 255).round().astype(int)).max() <= 1
    another = model.redraw("a photo of {}", learned * 0, noise, settings)
    assert np.abs(ours.astype(int) - another.astype(int)).max() > 10


def test_each_image_is_exported_once_and_those_without_a_pseudo_word_are_counted(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tokens", "export", run.store.url, "--to", str(tmp_path)]) == exits.ALL_JUDGED
    output = capsys.readouterr()
    assert ": 2 " in output.err and "1 image without" in output.err
    assert output.out == f"{tmp_path}/{INDEX}\n"
    rows = index(tmp_path)
    assert {Path(row["uri"]).name for row in rows} == {"familiar-1.png", "unseen-1.png"}
    assert {row["file"] for row in rows} == {f.name for f in tmp_path.iterdir()} - {INDEX}
    for row in rows:
        sweep = run.ledger.record(row["image_id"])["sweep"]
        assert float(row["distance"]) == sweep[1]["distance_mean"]


def test_chosen_images_and_tokens(run: RunFolder, tmp_path: Path) -> None:
    (row, *_), source = _exported(run, tmp_path / "all"), run.manifest.source
    for k, name in enumerate(
        (row["image_id"], row["image_id"][:8], "familiar-1.png", f"{source}/familiar-1.png")
    ):
        chosen = _exported(run, tmp_path / str(k), [name], tokens=1)
        assert [(r["image_id"], r["tokens"]) for r in chosen] == [(row["image_id"], "1")]
        part = safetensors.torch.load_file(tmp_path / str(k) / chosen[0]["file"])
        assert part["emb_params"].shape[0] == 1
    (copy,) = _exported(run, tmp_path / "copy", ["zz copy.png"])
    assert Path(copy["uri"]).name == "zz copy.png"


def test_a_passing_number_of_tokens_is_taken(run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(run.store.url, tmp_path / "run")
    passed = open_run(str(tmp_path / "run"))
    record = passed.ledger.record(_id(passed, "familiar-1.png"))
    passed.ledger.queue_again(lambda row: "any" if row["image_id"] == record["image_id"] else None, [], {})
    words = {"tokens.safetensors": passed.store.read(f"{artefacts_of(record)}/tokens.safetensors")}
    passed.ledger.commit(record["image_id"], {**record, "min_tokens": 1, "censored": False}, words)
    (row,) = _exported(passed, tmp_path / "to", ["familiar-1.png"])
    assert row["tokens"] == "1" and row["file"].endswith("-m1.safetensors")


def _id(run: RunFolder, path: str) -> str:
    return next(str(run.identities[n]) for n in range(len(run.manifest)) if run.manifest.path(n) == path)


def test_export_errors_are_one_line(run: RunFolder, tmp_path: Path) -> None:
    to = open_store(str(tmp_path / "to"))
    with pytest.raises(SettingsError, match=r"'nowhere\.png'.* --image"):
        export(run, to, ["familiar-1.png", "nowhere.png"])
    with pytest.raises(SettingsError, match="5 tokens"):
        export(run, to, tokens=5)
    assert not list(to.list())


def test_a_damaged_pseudo_word_does_not_prevent_the_export_of_others(
    run: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(run.store.url, tmp_path / "run")
    record = run.ledger.record(_id(run, "familiar-1.png"))
    file = tmp_path / "run" / artefacts_of(record) / "tokens.safetensors"
    whole = file.read_bytes()
    for damage in (b"torn", whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:]):
        file.write_bytes(damage)
        torn = open_run(str(tmp_path / "run"))
        assert export(torn, open_store(str(tmp_path / "to"))) == (1, 2)
        assert re.search(r"tokens\.safetensors is damaged \(.*\)", caplog.text)
        caplog.clear()
        with pytest.raises(SettingsError, match="pseudo-word"):
            export(torn, open_store(str(tmp_path / "to")), ["familiar-1.png"])


def test_a_run_folder_is_refused_as_target(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file.path for file in run.store.list()}
    assert main(["tokens", "export", run.store.url, "--to", f"{run.store.url}/"]) == exits.BAD_SETTINGS
    assert "--to" in capsys.readouterr().err
    assert {file.path for file in run.store.list()} == before
