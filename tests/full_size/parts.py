"""The parts that are run at full size: Stable Diffusion v1-4 in bf16, DreamSim, and the cat detector.

Every part raises an error if a number is not finite.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from originality.model.families import FAMILIES, write_configuration
from originality.model.randomness import keyed_generator
from originality.settings.audit import AuditSettings
from originality.settings.domains import DOMAINS, edit_prompt
from originality.settings.inversion import InversionSettings
from originality.settings.parts import DistanceSettings, InDistributionSettings, ModelSettings
from originality.settings.redraw import RedrawSettings

# Private: DreamSim._model, because no public call gives the weights of the ensemble.

DRAWN = RedrawSettings(count=2, steps=3)
"""Few images of few steps, with guidance: each image takes two UNet samples a step."""
DOMAIN = DOMAINS["houses"]


def model(folder: Path) -> dict[str, Any]:
    """Write the model with random weights."""
    import diffusers
    import transformers

    torch.manual_seed(0)
    place = write_configuration(FAMILIES["sd1"], folder / "model")
    found = {}
    for part, kind in (("unet", diffusers.UNet2DConditionModel), ("vae", diffusers.AutoencoderKL)):
        module = kind.from_config(json.loads((place / part / "config.json").read_text())).to(torch.bfloat16)
        module.save_pretrained(place / part)
        found[part] = _parameters(module)
    config = transformers.CLIPTextConfig.from_pretrained(place / "text_encoder")
    encoder = transformers.CLIPTextModel(config).to(torch.bfloat16)
    encoder.save_pretrained(place / "text_encoder")
    found["text_encoder"] = _parameters(encoder)
    size = sum(file.stat().st_size for file in place.rglob("*.safetensors"))
    return {"parameters": found, "weights_gib": round(size / 2**30, 2)}


def sdxl(folder: Path) -> dict[str, Any]:
    """Count SDXL's parameters without allocating them: its UNet alone takes 10 GB."""
    import diffusers
    import transformers

    place = write_configuration(FAMILIES["sdxl"], folder / "sdxl")
    found = {}
    with torch.device("meta"):
        for part, kind in (("unet", diffusers.UNet2DConditionModel), ("vae", diffusers.AutoencoderKL)):
            config = json.loads((place / part / "config.json").read_text())
            found[part] = _parameters(kind.from_config(config))
        for part, tower in zip(("text_encoder", "text_encoder_2"), FAMILIES["sdxl"].texts, strict=True):
            config = transformers.CLIPTextConfig.from_pretrained(place / part)
            found[part] = _parameters(getattr(transformers, tower.kind)(config))
    return {"parameters": found}


def single_file(folder: Path) -> dict[str, Any]:
    """Write the model as one file in CompVis' layout, unpack it to a folder, and compare to the last bit."""
    from safetensors.torch import load_file, save_file

    from originality.model.single_file import unpack
    from tests.support.ldm_layout import one_file

    packed = folder / "packed.safetensors"
    save_file(one_file(folder / "model"), packed)
    made, seconds = _timed(lambda: unpack(packed, folder / "unpacked", None))
    for file in made.glob("*/*.safetensors"):
        ours, theirs = load_file(file), load_file(folder / "model" / file.relative_to(made))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    packed.unlink()
    shutil.rmtree(made)
    return {"seconds": seconds}


def encode(folder: Path) -> dict[str, Any]:
    """Encode a photo with the VAE."""
    loaded = _loaded(folder)
    moments, seconds = _timed(lambda: loaded.encode(loaded.fit(_photo())))
    _finite(moments.mean, moments.std)
    return {"seconds": seconds, "images": 1}


def decode(folder: Path) -> dict[str, Any]:
    """Decode random latents with the VAE."""
    loaded = _loaded(folder)
    latents = torch.randn((1, *loaded.latent_shape), generator=keyed_generator("latents"))
    images, seconds = _timed(lambda: loaded.decode(latents))
    assert images.shape == (1, 512, 512, 3)
    return {"seconds": seconds, "images": 1}


def inversion(folder: Path, samples: int) -> dict[str, Any]:
    """Time the second optimiser step of a pseudo-word of two tokens; the first includes set-up."""
    from originality.inversion.inverter import Inverter

    loaded = _loaded(folder)
    inverter = Inverter(loaded, DOMAIN, InversionSettings(batch_size=samples), seed=0)
    lane = inverter.open("photo", loaded.encode(loaded.fit(_photo())), 2)
    before = lane.vectors.detach().clone()
    inverter.advance([lane])
    _, seconds = _timed(lambda: inverter.advance([lane]))
    lane.read_losses()
    _finite(lane.vectors.detach(), torch.tensor(lane.losses))
    assert lane.step == 2 and not torch.equal(lane.vectors.detach(), before)
    return {"seconds": seconds, "unet_samples": samples, "losses": [round(x, 4) for x in lane.losses]}


def redraw(folder: Path) -> dict[str, Any]:
    """Draw redraws with guidance and decode them."""
    loaded = _loaded(folder)
    images, seconds = _timed(lambda: _drawn(loaded, "a photo of {}"))
    return {
        "seconds": seconds,
        "unet_samples": DRAWN.count * loaded.unet_samples_per_redraw(DRAWN),
        "images": len(images),
    }


def editability(folder: Path) -> dict[str, Any]:
    """Draw images of the edit prompt and look for cats in them: with random weights, there are none."""
    from originality.evaluation.in_distribution import load_check

    loaded = _loaded(folder)
    check = load_check(InDistributionSettings(), DOMAIN.edit_subject)
    assert check is not None and check.wants_edits
    images, drawing = _timed(lambda: _drawn(loaded, edit_prompt(DOMAIN.edit_subject)))
    score, seconds = _timed(lambda: check.score(images, images))
    cats = check.score(images, np.repeat(loaded.fit(_photo())[None], 2, axis=0))
    assert (score, cats) == (0.0, 1.0)
    return {
        "seconds": seconds,
        "images": len(images),
        "drawing_seconds": drawing,
        "unet_samples": DRAWN.count * loaded.unet_samples_per_redraw(DRAWN),
        "score": score,
        "score_of_the_photo_of_a_cat": cats,
    }


def dreamsim(folder: Path) -> dict[str, Any]:
    """Load the ensemble with random weights, and measure a photo against four variations of itself."""
    from originality.evaluation.distance import load_distance

    distance = load_distance(DistanceSettings(folder=str(_ensemble(folder))))
    query = np.asarray(_photo().resize((512, 512)))
    others = np.stack([query, query[::-1], 255 - query, np.roll(query, 200, axis=1)])
    distance.embed(query[None])
    embedded, seconds = _timed(lambda: distance.embed(others))
    found = distance.between(embedded[0], embedded)
    assert np.isfinite(found).all() and found[0] < 1e-6 < found[1:].min()
    parameters = {"ensemble": _parameters(distance._model)}  # type: ignore[attr-defined]
    return {"seconds": seconds, "images": len(others), "parameters": parameters}


def sweep(folder: Path) -> dict[str, Any]:
    """Judge one image from admission to verdict: one token, one step, redraws, DreamSim and the detector."""
    from originality.contract.scorer import Item
    from originality.sweep.sweep import Sweep

    settings = AuditSettings(
        model=_settings(folder),
        domain=DOMAIN.name,
        max_tokens=1,
        inversion=InversionSettings(steps=1, batch_size=2),
        redraw=DRAWN,
        distance=DistanceSettings(folder=str(_ensemble(folder))),
    )
    judging = Sweep(settings)

    def judged() -> Any:
        judging.admit(Item("photo", _photo()))
        while not (finished := judging.step()):
            pass
        return finished[0]

    finished, seconds = _timed(judged)
    (attempt,) = finished.record["sweep"]
    assert finished.record["status"] == "judged" and attempt["failure"] is None
    return {
        "seconds": seconds,
        "unet_samples": attempt["unet_samples"],
        "distance": round(attempt["distance_mean"], 4),
        "editability": attempt["editability"],
    }


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "model": model,
    "single file": single_file,
    "encode": encode,
    "decode": decode,
    "inversion 2": partial(inversion, samples=2),
    "inversion 4": partial(inversion, samples=4),
    "redraw": redraw,
    "editability": editability,
    "dreamsim": dreamsim,
    "sweep": sweep,
    "sdxl": sdxl,
}


def _settings(folder: Path) -> ModelSettings:
    return ModelSettings(path=str(folder / "model"), dtype="bf16", device="cpu")


def _loaded(folder: Path) -> Any:
    from originality.model.diffusion import LatentDiffusion

    return LatentDiffusion(_settings(folder))


def _ensemble(folder: Path) -> Path:
    """DreamSim's folder with random weights, written on first use."""
    from dreamsim.feature_extraction.vision_transformer import vit_base

    from tests.support.dreamsim_standin import FULL, package_undone, save_adapter, save_clip, save_dino

    place = folder / "dreamsim"
    if not place.exists():
        place.mkdir()
        save_dino(place, vit_base(patch_size=16), FULL)
        save_clip(place / "clip_vitb16_pretrain.pth.tar", vit_base(patch_size=16), 512, 2)
        save_clip(place / "open_clip_vitb16_pretrain.pth.tar", vit_base(patch_size=16), 512, 3)
        with package_undone():
            save_adapter(place, "ensemble")
    return place


def _photo() -> Image.Image:
    """A photo of a cat."""
    import skimage.data

    return Image.fromarray(skimage.data.chelsea())


def _drawn(loaded: Any, prompt: str) -> np.ndarray:
    noise = torch.randn((DRAWN.count, *loaded.latent_shape), generator=keyed_generator("noise"))
    vectors = loaded.text.word_vector(DOMAIN.initial_word).repeat(2, 1)
    images: np.ndarray = loaded.redraw(prompt, vectors, noise, DRAWN)
    assert images.shape == (DRAWN.count, 512, 512, 3) and images.std() > 0
    return images


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    result = work()
    return result, round(time.monotonic() - began, 2)


def _finite(*tensors: torch.Tensor) -> None:
    assert all(bool(tensor.isfinite().all()) for tensor in tensors)


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
