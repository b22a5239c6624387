"""Files of words, read by the rules of those who read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from originality.model.embedding_files import SECOND_ENCODER, Word, file_name, words_of
from originality.sweep.image_state import word_name

RNG = np.random.default_rng(0)
VECTORS, WIDE = RNG.normal(size=(2, 3, 8)).astype(np.float32), RNG.normal(size=(3, 12)).astype(np.float32)


def a1111(file: Path) -> dict[str, torch.Tensor] | torch.Tensor:
    """A1111's rule: SDXL's two names, or one tensor of any name and two axes."""
    data = safetensors.torch.load_file(file)
    if "clip_g" in data and "clip_l" in data:
        assert len(data["clip_g"]) == len(data["clip_l"])
        return data
    (vectors,) = data.values()
    assert vectors.ndim == 2
    return vectors


def comfyui(file: Path, encoder: str = "clip_l") -> torch.Tensor:
    """ComfyUI's rule: the tensor of the text encoder's name, or the first."""
    data = safetensors.torch.load_file(file)
    assert "string_to_param" not in data
    return data[encoder] if encoder in data else next(iter(data.values()))


def test_a_word_for_one_text_encoder_is_read_by_all_tools(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(Word(VECTORS[0]).file())
    assert np.array_equal(a1111(file), VECTORS[0])
    for encoder in ("clip_l", "clip_h"):
        assert np.array_equal(comfyui(file, encoder), VECTORS[0])


def test_a_word_for_two_text_encoders_is_read_by_all_tools(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(Word(VECTORS[0], WIDE).file())
    theirs = a1111(file)
    assert isinstance(theirs, dict) and set(theirs) == {"clip_l", "clip_g"}
    for encoder, part in (("clip_l", VECTORS[0]), ("clip_g", WIDE)):
        assert np.array_equal(theirs[encoder], part) and np.array_equal(comfyui(file, encoder), part)


def test_the_words_of_an_image_are_read() -> None:
    parts = {f"{word_name(m)}{end}": torch.ones(m, 4) * m for m in (1, 2, 11) for end in ("", SECOND_ENCODER)}
    words = words_of(safetensors.torch.save(parts))
    assert list(words) == [1, 2, 11]
    assert words[11].vectors.shape == words[11].second.shape == (11, 4)  # type: ignore[union-attr]
    assert (words[2].vectors == 2).all()


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"<s2>": torch.ones(1, 4)}, "shape"),
        ({"<s1>": torch.ones(1)}, "shape"),
        ({"S*": torch.ones(1, 4)}, r"S\*"),
        ({f"<s1>{SECOND_ENCODER}": torch.ones(1, 4)}, "second"),
    ],
)
def test_a_file_that_holds_no_words_is_refused(parts: dict[str, torch.Tensor], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        words_of(safetensors.torch.save(parts))


def test_a_truncated_file_is_refused() -> None:
    with pytest.raises(ValueError, match="safetensors"):
        words_of(safetensors.torch.save({"<s1>": torch.ones(1, 4)})[:-3])


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("a/My House (2).final.JPG", "my-house-2-final-"),
        ("../../etc/passwd", ""),
        ("a/..png", ""),
        ("日本.png", ""),
        ("a/embedding:x, y>.png", "embedding-x-y-"),
        ("x" * 300 + ".png", "x" * 40 + "-"),
        ("a\nb\x1b.png", "a-b-"),
    ],
)
def test_names_are_plain(path: str, plain: str) -> None:
    assert file_name(path, "0123456789abcdef", 3) == f"{plain}0123456789ab-m3.safetensors"
