"""Compares a model's weight files with its configurations, by the names and shapes of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open

from originality.contract import outline
from originality.contract.config import SettingsError
from originality.model.library_errors import library_errors
from originality.model.meta_model import Architecture
from originality.model.model_folder import ModelFolder

_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Layers of a VAE's attention: former names, which diffusers still reads, and present ones."""


def check_weights(folder: ModelFolder) -> None:
    """Compare the headers of a model's weight files with the networks that its configurations describe.

    BERT's weights are skipped, as they come under several names; so is a folder without its weights. Loading
    them reports what is missing.

    Raises:
        SettingsError: tensors are missing or have a different shape.
    """
    if outline.absent(folder.path):
        return
    architecture = Architecture.of_folder(folder)
    with library_errors(f"model folder {folder.name!r}"):
        parts = architecture.built()
    kinds = ("UNet2DConditionModel", "AutoencoderKL", *(kind for kind, _ in architecture.texts))
    networks = (parts.unet, parts.vae, *parts.encoders)
    for (part, files), kind, network in zip(folder.weight_files.items(), kinds, networks, strict=True):
        if kind == "BertModel":
            continue
        with library_errors(f"model folder {folder.name!r}: its {part}"):
            # Parameters alone: versions of the libraries differ in which buffers they save.
            wanted = {name: tuple(value.shape) for name, value in network.named_parameters()}
            wrong = _difference(_shapes(files), wanted)
        if wrong:
            raise SettingsError(
                f"model folder {folder.name!r}: {files[0]} {wrong}, by {part}/config.json; fetch both, "
                "of the same model"
            )


def _shapes(files: list[Path]) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors, by name."""
    found = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                found[name] = tuple(opened.get_slice(name).get_shape())
    return found


def _difference(held: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str | None:
    """What a network lacks in its weights, as the end of "FILE ..."; None if nothing. More may be there."""
    held, wanted = ({_name(n): shape for n, shape in of.items()} for of in (held, wanted))
    if absent := sorted(wanted.keys() - held.keys()):
        return f"lacks {len(absent)} of {len(wanted)} tensors, {absent[0]} first"
    other = sorted(name for name, shape in wanted.items() if held[name] != shape)
    if other:
        return f"holds {other[0]} as {list(held[other[0]])}, which should be {list(wanted[other[0]])}"
    return None


def _name(name: str) -> str:
    """A name that is the same for a tensor's present and former names."""
    if ".mid_block.attentions." in name:
        name = ".".join(_OLD.get(word, word) for word in name.split("."))
    return name.removeprefix("text_model.")
