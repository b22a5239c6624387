"""The published families: their sizes, their schedules, and CLIP's words."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import pytest
import torch
import transformers
from transformers import CLIPTokenizer

from originality.model.clip_vocabulary import END, LENGTH, TOKENS, write_tokenizer
from originality.model.families import FAMILIES, write_configuration
from originality.settings.domains import DOMAINS
from tests.support.places import ROOT

SIZES = {
    "sd1": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "sd2-base": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "sd2": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "sdxl": {
        "unet": 2_567_463_684,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
    },
}
"""Parameters of the published models."""


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(write_tokenizer(tmp_path_factory.mktemp("words"), END))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_has_the_published_number_of_parameters(name: str, tmp_path: Path) -> None:
    folder = write_configuration(FAMILIES[name], tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    found = {}
    for part in SIZES[name]:
        library, kind = index[part]
        with torch.device("meta"):
            if library == "diffusers":
                config = json.loads((folder / part / "config.json").read_text())
                model = getattr(diffusers, kind).from_config(config)
            else:
                config = transformers.CLIPTextConfig.from_pretrained(folder / part)
                model = getattr(transformers, kind)(config)
        found[part] = sum(parameter.numel() for parameter in model.parameters())
    assert found == SIZES[name]
    sampler = getattr(diffusers, index["scheduler"][1]).from_pretrained(folder / "scheduler")
    assert sampler.config.prediction_type == ("v_prediction" if name == "sd2" else "epsilon")
    assert sampler.alphas_cumprod[-1] == pytest.approx(0.00466, abs=1e-5)
    for tokenizer in folder.glob("tokenizer*"):
        assert len(CLIPTokenizer.from_pretrained(tokenizer)) == TOKENS


def test_ids_known_of_clip(words: CLIPTokenizer) -> None:
    assert words("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert words("a", padding="max_length").input_ids == [49406, 320] + [49407] * (LENGTH - 2)


def test_padding_of_openclip(tmp_path: Path) -> None:
    padded = CLIPTokenizer.from_pretrained(write_tokenizer(tmp_path, "!"))(
        "a", padding="max_length"
    ).input_ids
    assert padded == [49406, 320, 49407] + [0] * (LENGTH - 3)


def test_ids_are_those_of_open_clip(words: CLIPTokenizer) -> None:
    """But for its first step, which repairs texts ("Â©" to "©") and which transformers leaves out."""
    from open_clip.tokenizer import SimpleTokenizer, basic_clean

    theirs = SimpleTokenizer()
    texts = [t.format("cat") for domain in DOMAINS.values() for t in domain.templates]
    for page in ("README.md", "docs/promises.md", "docs/guide/audit.md"):
        texts += (ROOT / page).read_text().splitlines()
    texts += ["naïve Çedilla", "東京 の 猫", "🐈‍⬛ on a 🛹", "don't we'll I'M", "3.14159e-10", "x" * 90]
    texts += [
        chr(k) + " " + chr(k) * 3 for k in [*range(33, 0x300), *range(0x400, 0x500)] if chr(k).isprintable()
    ]
    texts = [text for text in texts if text and basic_clean(text) == text]
    assert len(texts) > 1000
    wrong = [t for t in texts if words(t, add_special_tokens=False).input_ids != theirs.encode(t)]
    assert wrong == []
