"""A model whose files are damaged, missing or of another kind is refused in one line that names the cause."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from originality.contract.config import SettingsError
from originality.contract.faults import MachineFault
from originality.model.clip_vocabulary import write_tokenizer
from originality.model.diffusion import LatentDiffusion
from originality.model.file_damage import damage, incomplete_tokenizer
from originality.model.library_errors import library_errors
from originality.model.model_folder import open_model
from originality.model.prompt_embeddings import word_tokens
from originality.model.transformers_folder import checked_folder
from originality.settings.parts import ModelSettings
from tests.support.refused_models import refused
from tests.support.tiny_models import FAMILIES

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 492265168\n"
PAGE = b"\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
UNET = "unet/diffusion_pytorch_model.safetensors"


CONFIGS = (
    *("model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json"),
    *("scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/tokenizer_config.json"),
)
WEIGHTS = (UNET, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")


def test_a_file_with_other_content_is_named_with_the_fix(hub_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(hub_folder, folder)
    assert open_model(ModelSettings(path=str(folder))).description.side == 64
    cut, cases = b'{"a": 1, ', [(name, POINTER, "git lfs pull") for name in (*CONFIGS, *WEIGHTS)]
    cases += [(name, PAGE, "is a web page") for name in (*CONFIGS, *WEIGHTS)]
    cases += [(name, b"", "is empty") for name in (*CONFIGS, *WEIGHTS)]
    cases += [(name, cut, "is damaged") for name in CONFIGS] + [(CONFIGS[1], b"[1]", "no JSON object")]
    cases += [(name, (folder / name).read_bytes()[:-9], "cut off or damaged") for name in WEIGHTS]
    merges = "tokenizer/merges.txt"
    broken = [(POINTER, "git lfs pull"), (PAGE, "is a web page"), (b"\xff\xfe\x00", "UTF-8")]
    cases += [(merges, content, why) for content, why in broken]
    cases += [(merges, b"#version: 0.2\nt i\nr e x\n", "line 3 is not two tokens")]
    for name, content, why in cases:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        message = refused(folder)
        assert f"{folder / name} " in message and why in message, (name, why, message)
        (folder / name).write_bytes(whole)
    (folder / UNET).rename(tmp_path / "elsewhere")
    (folder / UNET).symlink_to(tmp_path / "gone")
    assert f"{folder / UNET} is a link" in refused(folder)


def test_a_quantised_network_is_refused_and_half_precision_is_not(hub_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(hub_folder, folder)
    weights = load_file(folder / UNET)
    save_file({n: v.bfloat16() for n, v in weights.items()}, folder / UNET, {"format": "pt"})
    assert LatentDiffusion(ModelSettings(path=str(folder), device="cpu")).dtype == torch.float32
    for kind, name in ((torch.float8_e4m3fn, "F8_E4M3"), (torch.int8, "I8")):
        save_file({n: v.to(kind) for n, v in weights.items()}, folder / UNET, {"format": "pt"})
        assert f"{folder / UNET} holds weights in {name}, quantised" in refused(folder)


def test_an_incomplete_tokenizer_is_named_and_not_the_word_that_it_cannot_read(
    hub_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(hub_folder, folder)
    words = folder / "tokenizer"
    merges = (words / "merges.txt").read_text()
    for name in ("merges.txt", "vocab.json", "tokenizer_config.json"):
        whole = (words / name).read_bytes()
        (words / name).unlink()
        assert f"tokenizer {words} lacks {name}" in refused(folder)
        (words / name).write_bytes(whole)
    cut = "\n".join(merges.splitlines()[:200]) + "\n"
    (words / "merges.txt").write_text(cut)
    assert "merges.txt do not fit" in refused(folder)
    (words / "merges.txt").write_text(merges)
    vocabulary = json.loads((words / "vocab.json").read_text())
    lost = next(token for token in vocabulary if token.startswith("squa"))
    (words / "vocab.json").write_text(json.dumps({t: k for t, k in vocabulary.items() if t != lost}))
    assert "do not fit" in refused(folder)
    (words / "vocab.json").write_text(json.dumps(vocabulary))
    (tokenizer,) = open_model(ModelSettings(path=str(folder))).description.tokenizers
    assert len(word_tokens(tokenizer, "square")) == 1
    shutil.copy("originality/weights/shapes/tokenizer/tokenizer.json", words)  # holds both
    for name in ("merges.txt", "vocab.json"):
        (words / name).unlink()
    assert len(open_model(ModelSettings(path=str(folder))).description.tokenizers[0]) == len(vocabulary)
    assert "'BPE'" in str(incomplete_tokenizer(words, bert=True))
    (words / "tokenizer.json").unlink()
    assert "lacks vocab.txt; " in str(incomplete_tokenizer(words, bert=True))


def rewrite_json(file: Path, change: Callable[[Any], Any]) -> None:
    """Change the content of a JSON file."""
    read = json.loads(file.read_text("utf-8"))
    change(read)
    file.write_text(json.dumps(read))


def as_strings(read: dict[str, Any]) -> None:
    """As older versions of tokenizers write merges."""
    read["model"]["merges"] = [" ".join(pair) for pair in read["model"]["merges"]]


DAMAGED_VOCABULARIES: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("tokenizer.json", lambda t: t["model"]["merges"].__delitem__(slice(200, None)), "no merge makes"),
    ("tokenizer.json", lambda t: (as_strings(t), t["model"]["merges"].pop()), "no merge makes"),
    ("tokenizer.json", lambda t: t["model"]["vocab"].pop("re"), "lacks 're' of a merge"),
    ("tokenizer.json", lambda t: t["model"]["vocab"].clear(), "vocabulary is empty"),
    ("tokenizer.json", lambda t: t["model"]["vocab"].update(re="a"), "the number of 're' is 'a'"),
    ("tokenizer.json", lambda t: t["model"]["merges"].append(["a"]), "is not two tokens"),
    ("tokenizer.json", lambda t: t["model"].update(type="WordLevel"), "'WordLevel'"),
    ("tokenizer.json", lambda t: t.update(model="BPE"), "it holds no vocabulary"),
    ("vocab.json", lambda v: v.clear(), "the vocabulary is empty"),
    ("vocab.json", lambda v: v.pop("re"), "do not fit each other .the vocabulary lacks 're'"),
    ("vocab.json", lambda v: v.update(dict.fromkeys(v, "text")), "the number of .* is 'text'"),
]


@pytest.mark.parametrize(("name", "spoil", "why"), DAMAGED_VOCABULARIES)
def test_a_damaged_vocabulary_is_named(
    hub_folder: Path, tmp_path: Path, name: str, spoil: Callable[[dict[str, Any]], Any], why: str
) -> None:
    """Of tokenizer.json, and of the pair of files beside it, whichever a library reads."""
    shutil.copytree(hub_folder, tmp_path / "model")
    words, judge = tmp_path / "model" / "tokenizer", clip(tmp_path / "clip")
    shutil.copy("originality/weights/shapes/tokenizer/tokenizer.json", words)
    for file in ("tokenizer.json", "vocab.json", "merges.txt"):
        shutil.copy(words / file, judge)
    rewrite_json(words / "tokenizer.json", as_strings)
    assert open_model(ModelSettings(path=str(tmp_path / "model"))).description.side == 64
    shutil.copy("originality/weights/shapes/tokenizer/tokenizer.json", words)
    checked_folder(judge, {"clip"}, "a CLIPModel", words=True)
    rewrite_json(words / name, spoil)
    rewrite_json(judge / name, spoil)
    message = refused(tmp_path / "model")
    assert name in message and str(words) in message and re.search(why, message), message
    with pytest.raises(SettingsError, match=why):
        checked_folder(judge, {"clip"}, "a CLIPModel", words=True)


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json", "tokenizer/merges.txt"])
def test_a_folder_in_place_of_a_file_is_named(hub_folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(hub_folder, tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    (tmp_path / "model" / name).mkdir()
    assert f"{tmp_path / 'model' / name} is a folder" in refused(tmp_path / "model")


def test_clips_published_vocabulary_is_complete(tmp_path: Path) -> None:
    words = write_tokenizer(tmp_path, "!")
    assert damage(words / "vocab.json") is damage(words / "merges.txt") is None
    assert incomplete_tokenizer(words, bert=False) is None


@pytest.mark.parametrize(
    "kind",
    [
        *("StableDiffusion3Pipeline", "FluxPipeline", "PixArtSigmaPipeline", "KandinskyV22Pipeline"),
        *("Kandinsky3Pipeline", "IFPipeline", "StableCascadeDecoderPipeline", "WuerstchenDecoderPipeline"),
        *("HunyuanDiTPipeline", "KolorsPipeline", "AuraFlowPipeline", "QwenImagePipeline", "SanaPipeline"),
    ],
)
def test_an_unsupported_pipeline_is_refused_by_its_name(tmp_path: Path, kind: str) -> None:
    """Whatever parts it has."""
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    assert f"is a {kind} by its model_index.json; supported are" in refused(tmp_path)


WRONG_CONFIGS: list[tuple[str, dict[str, Any], str]] = [
    ("text_encoder/config.json", {"hidden_size": "a"}, "text_encoder cannot be loaded .*hidden_size"),
    ("text_encoder/config.json", {"num_attention_heads": 7}, "text_encoder cannot be loaded"),
    ("tokenizer/tokenizer.json", {"pre_tokenizer": {"type": "Foo"}}, "tokenizer cannot be loaded"),
    ("unet/config.json", {"block_out_channels": "a"}, "unet cannot be loaded"),
]


@pytest.mark.parametrize(("name", "values", "why"), WRONG_CONFIGS)
def test_a_value_that_a_library_refuses_gives_one_line_that_names_the_part(
    tmp_path: Path, name: str, values: dict[str, Any], why: str
) -> None:
    """Whatever class of error the library raises."""
    folder = FAMILIES["sd1"](tmp_path / "model")
    rewrite_json(folder / name, lambda read: read.update(values))
    with pytest.raises(SettingsError, match=why) as caught:
        LatentDiffusion(ModelSettings(path=str(folder), device="cpu"))
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError(), MachineFault("a card")])
def test_a_machine_fault_is_not_blamed_on_a_folder(error: Exception) -> None:
    with pytest.raises(type(error)), library_errors("folder there"):
        raise error


def test_unused_files_change_nothing(hub_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(hub_folder, folder)
    for name in ("unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.non_ema.safetensors"):
        (folder / name).write_bytes(POINTER)
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "config.json").write_bytes(PAGE)
    (folder / "v1-5-pruned-emaonly.safetensors").write_bytes(POINTER)
    (folder / "README.md").write_text("---\nlicense: mit\n---")
    settings = (ModelSettings(path=str(f), device="cpu") for f in (hub_folder, folder))
    assert len({open_model(s).digest for s in settings}) == 1


def test_old_names_of_a_vaes_attention_are_read(hub_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(hub_folder, folder)
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}

    def aged(name: str) -> str:
        for new, was in old.items():
            name = name.replace(new, was)
        return name

    save_file({aged(n): v for n, v in load_file(file).items()}, file, {"format": "pt"})
    picture = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    one, other = (LatentDiffusion(ModelSettings(path=str(f), device="cpu")) for f in (hub_folder, folder))
    assert torch.equal(one.encode(picture).mean, other.encode(picture).mean)


def clip(folder: Path) -> Path:
    """Its files without a network: what is looked at first."""
    write_tokenizer(folder, "!")
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (folder / "preprocessor_config.json").write_text("{}")
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    return folder


def lines_of(file: Path) -> list[str]:
    return file.read_text("utf-8").splitlines()


DAMAGED_FILES: list[tuple[str, Callable[[Path], object], str]] = [
    ("model.safetensors", lambda file: file.write_bytes(POINTER), "git lfs pull"),
    ("config.json", lambda file: file.write_bytes(POINTER), "git lfs pull"),
    ("vocab.json", lambda file: file.write_bytes(file.read_bytes()[:-20]), "is damaged"),
    ("merges.txt", lambda file: file.write_bytes(PAGE), "is a web page"),
    ("merges.txt", lambda file: file.write_text("\n".join(lines_of(file)[:400])), "merges.txt do not fit"),
    (
        "model.safetensors",
        Path.unlink,
        "has no model.safetensors; .*take openai/clip-vit-large-patch14 @32bd",
    ),
]


@pytest.mark.parametrize(("name", "spoil", "why"), DAMAGED_FILES)
def test_a_damaged_file_of_a_clip_folder_is_named(
    tmp_path: Path, name: str, spoil: Callable[[Path], object], why: str
) -> None:
    folder = clip(tmp_path)
    assert checked_folder(folder, {"clip"}, "a CLIPModel", words=True) == folder
    spoil(folder / name)
    with pytest.raises(SettingsError, match=why) as caught:
        checked_folder(folder, {"clip"}, "a CLIPModel", words=True)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_a_second_text_encoder_that_lacks_its_vocabulary_or_weights_is_named(tmp_path: Path) -> None:
    folder = FAMILIES["sdxl"](tmp_path / "model")
    assert open_model(ModelSettings(path=str(folder))).path == folder
    (folder / "tokenizer_2" / "tokenizer.json").unlink()
    assert f"tokenizer {folder / 'tokenizer_2'} lacks vocab.json, merges.txt" in refused(folder)
