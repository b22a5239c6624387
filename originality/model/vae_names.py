"""Names of a VAE's weights in single-file checkpoints, and in diffusers.

A file has CompVis' names throughout; or CompVis' names but for the attention, which has diffusers' present
("to_q") or former ("query") names; or diffusers' names throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COMPVIS = {
    **{"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out", "group_norm": "norm"},
    **{"query": "q", "key": "k", "value": "v", "proj_attn": "proj_out"},
}
_DIFFUSERS = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of the attention's layers in CompVis' and in diffusers' layout, by their other names."""


def of_diffusers(own: Mapping[str, Any], prefix: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A file's weights under the names of diffusers' AutoencoderKL.

    Args:
        own: the VAE's weights alone, by their names in the file.
        prefix: with which each of those begins.
        config: of the VAE, as diffusers writes it.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    if not any(".mid_block." in name for name in own):
        named = {_layer_renamed(name, ".mid.attn_1.", _COMPVIS): value for name, value in own.items()}
        return dict(convert_ldm_vae_checkpoint(named, config))
    found = {}
    for name, value in own.items():
        new = _layer_renamed(name, ".mid_block.attentions.0.", _DIFFUSERS).removeprefix(prefix)
        # Former layouts store linear layers as 1x1 convolutions.
        found[new] = value.flatten(1) if ".attentions." in new and value.ndim > 2 else value
    return found


def _layer_renamed(name: str, attention: str, names: Mapping[str, str]) -> str:
    head, found, layer = name.partition(attention)
    layer, _, kind = layer.rpartition(".")
    return f"{head}{found}{names.get(layer, layer)}.{kind}" if found else name
