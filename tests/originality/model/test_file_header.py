"""What a single-file checkpoint says of itself beside its weights, and other names its weights may have."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from originality.contract.config import SettingsError
from originality.model.single_file import unpack
from tests.support.ldm_layout import minimal, one_file, same
from tests.support.tiny_models import FAMILIES

TYPE, ARCHITECTURE = "modelspec.prediction_type", "modelspec.architecture"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("folders")
    return {name: FAMILIES[name](place / name) for name in ("sd1", "sd2")}


@pytest.fixture(scope="module")
def weights(folders: dict[str, Path]) -> dict[str, dict[str, torch.Tensor]]:
    return {name: one_file(folder) for name, folder in folders.items()}


READ = [
    ("sd1", {}, False, None, "epsilon"),
    ("sd1", {TYPE: "v"}, False, None, "v_prediction"),
    ("sd1", {TYPE: "v_prediction"}, True, None, "v_prediction"),
    ("sd1", {TYPE: "epsilon", ARCHITECTURE: "stable-diffusion-v1"}, False, None, "epsilon"),
    ("sd1", {"ss_v_parameterization": "True", "ss_v2": "False"}, False, None, "v_prediction"),
    ("sd1", {TYPE: "epsilon", "ss_v_parameterization": "False"}, False, None, "epsilon"),
    ("sd2", {"ss_v_parameterization": "False"}, False, None, "epsilon"),
    ("sd1", {TYPE: "epsilon"}, True, "v_prediction", "v_prediction"),  # it says both, and one is meant
    ("sd2", {TYPE: "v"}, False, None, "v_prediction"),
    ("sd2", {TYPE: "V-Prediction"}, False, "v_prediction", "v_prediction"),
    ("sd2", {TYPE: "epsilon"}, False, None, "epsilon"),
    ("sd2", {ARCHITECTURE: "stable-diffusion-v2-768-v"}, False, None, "v_prediction"),
    ("sd2", {ARCHITECTURE: "stable-diffusion-v2-512", "ss_v2": "True"}, False, None, "epsilon"),
    ("sd2", {"ss_base_model_version": "sd_v2_v"}, False, None, "v_prediction"),
    ("sd2", {"modelspec.title": "mine", "format": "pt"}, False, "epsilon", "epsilon"),
]


@pytest.mark.parametrize(("family", "header", "marked", "requested", "meant"), READ)
def test_a_prediction_is_read_from_the_header(
    folders, weights, tmp_path: Path, family, header, marked, requested, meant
) -> None:
    file, marks = tmp_path / "model.safetensors", {"v_pred": torch.zeros(0)} if marked else {}
    save_file({**weights[family], **marks}, file, header)
    made = unpack(file, tmp_path / "made", requested, folders[family])
    scheduler = json.loads((made / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler.get("prediction_type", "epsilon") == meant


SD1 = minimal("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight")
SD2 = minimal("cond_stage_model.model.ln_final.weight")
OTHERS = (
    *(
        ("Flux-1-dev", "flux"),
        ("flux.1-schnell", "flux"),
        ("stable-diffusion-3-medium", "stable-diffusion-3"),
    ),
    *(("stable-diffusion-v3", "stable-diffusion-v3"), ("stable-diffusion-v1-inpainting", "inpaint")),
    *(("stable-diffusion-v1/lora", "lora"), ("stable-diffusion-xl-v1-refiner", "refiner")),
)
REFUSED = [
    (SD1, {TYPE: "v"}, "epsilon", "v_prediction by modelspec.*model.prediction is 'epsilon'"),
    (SD1, {TYPE: "epsilon"}, "v_prediction", "epsilon by modelspec.* model.prediction is 'v_prediction'"),
    (SD2, {ARCHITECTURE: "stable-diffusion-v2-768-v"}, "epsilon", "v_prediction by modelspec.architecture"),
    (SD1 | {"v_pred": torch.zeros(1)}, {}, "epsilon", "v_prediction by its tensor v_pred"),
    (SD1 | {"v_pred": torch.zeros(1)}, {TYPE: "epsilon"}, None, "set model.prediction"),
    (SD2, {ARCHITECTURE: "stable-diffusion-v2-512", TYPE: "v"}, None, "contradicts itself"),
    (SD1, {TYPE: "v", "ss_v_parameterization": "False"}, None, "contradicts itself .*epsilon by ss_v_param"),
    (SD2, {"ss_base_model_version": "sd_v2_v", "ss_v_parameterization": "0"}, None, "contradicts itself"),
    *((SD1, {ARCHITECTURE: name}, "epsilon", f"of another kind, {kind}, by its") for name, kind in OTHERS),
    (SD2, {"modelspec.title": "mine"}, None, "model.prediction to v_prediction"),
    (SD1, {TYPE: "flow_prediction"}, None, "trained by flow matching"),
    (SD1, {TYPE: "velocity", "modelspec.noise_process": "flow"}, None, "trained by flow matching"),
    (SD1, {TYPE: "sample"}, "epsilon", "predicts 'sample' by its header"),
    (SD1, {"ss_zero_terminal_snr": "True"}, "v_prediction", "zero terminal signal-to-noise ratio"),
    (SD1, {ARCHITECTURE: "stable-diffusion-xl-v1-base"}, None, "sdxl by its header .*sd1 by its tensors"),
    (SD1, {"ss_v2": "True"}, None, "sd2 by its header .ss_v2 'true'. and sd1 by its tensors"),
    (SD2, {"ss_v2": "False"}, "epsilon", "sd2 by its header .ss_v2 'false'"),
    (SD1, {"ss_base_model_version": "sdxl_base_v1-0"}, None, "sdxl by its header .ss_base_model_version"),
    (SD1 | {"edm_vpred.sigma_max": torch.zeros(1)}, {}, None, "CosXL"),
    ({"model_ema.decay": torch.zeros(1)}, {}, None, "only the running average"),
    ({"diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, {}, None, "a UNet without text encoder"),
]


@pytest.mark.parametrize(("tensors", "header", "requested", "why"), REFUSED)
def test_a_contradicting_or_unsupported_header_is_refused(
    tmp_path: Path, tensors, header, requested, why
) -> None:
    file = tmp_path / "model.safetensors"
    save_file(tensors, file, header)
    with pytest.raises(SettingsError, match=why) as caught:
        unpack(file, tmp_path / "made", requested)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    assert not (tmp_path / "made").exists()


OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
NEW = {"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def attention(name: str, names: dict[str, str], at: str) -> str:
    for one, other in names.items():
        name = re.sub(rf"({re.escape(at)}\.){re.escape(one)}(\.\w+)$", rf"\1{other}\2", name)
    return name


@pytest.mark.parametrize("names", ["to_q", "to_q and group_norm", "query", "diffusers", "diffusers of old"])
def test_a_vaes_weights_are_found_under_all_their_names(folders, weights, tmp_path: Path, names: str) -> None:
    whole = weights["sd1"]
    rest = {name: value for name, value in whole.items() if not name.startswith("first_stage_model.")}
    vae = {name: value for name, value in whole.items() if name not in rest}
    at = "mid.attn_1"
    if names.startswith("diffusers"):
        own = load_file(folders["sd1"] / "vae" / "diffusion_pytorch_model.safetensors")
        old = OLD if names.endswith("of old") else {}
        vae = {f"first_stage_model.{attention(n, old, 'mid_block.attentions.0')}": v for n, v in own.items()}
        if old:  # by convolutions of one pixel
            layers = tuple(f".{name}.weight" for name in OLD.values())
            vae = {n: v[:, :, None, None] if n.endswith(layers) else v for n, v in vae.items()}
    elif names == "query":
        vae = {attention(n, {one: OLD[NEW[one]] for one in NEW}, at): v for n, v in vae.items()}
    else:
        more = {"norm": "group_norm"} if "group_norm" in names else {}
        vae = {attention(n, NEW | more, at): v for n, v in vae.items()}
    assert vae.keys() != {name for name in whole if name.startswith("first_stage_model.")}
    save_file({**rest, **{n: v.contiguous() for n, v in vae.items()}}, tmp_path / "model.safetensors")
    assert same(
        unpack(tmp_path / "model.safetensors", tmp_path / "made", None, folders["sd1"]), folders["sd1"]
    )
