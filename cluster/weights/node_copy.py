"""Weights of models and metrics on the machine that needs them, from a prefix of a bucket or from the hub.

Copied once a node and shared by its workers: the first takes a lock and copies while the others wait. A copy
appears complete or not at all, under a name that follows from what the bucket lists, so that a prefix that
changed is another copy; a copy that broke off is resumed. Every start checks the digests of what it uses;
what is damaged is fetched anew. A machine that loads nothing may ask for an outline: the small files, and of
the weights only sizes and checksums.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cluster.storage.store import open_store
from cluster.weights.bucket import from_bucket
from cluster.weights.hub import Commit, from_hub
from cluster.weights.hub_moves import moved
from cluster.weights.wanted import SAFE, Wanted
from originality.contract.config import SettingsError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def local_copy(
    uri: str,
    parts: Sequence[str],
    *,
    revision: str | None = None,
    suffixes: Sequence[str] = SAFE,
    variant: str = "none",
    setting: str = "model",
    outlined: bool = False,
) -> Path | None:
    """The folder on this machine where the weights of a bucket's prefix or of the hub are; they are
    brought there if they are not. None for all other names, as there is nothing to bring: a folder of this
    machine, or a model that ships.

    Args:
        parts: names of the files and folders that are wanted, at the top of the model.
        revision: the commit of a hub's model.
        suffixes: of the files that are taken. Whoever adds pickles to them must read those as tensors only.
        variant: which of the files of weights (originality.contract.weight_variants).
        setting: the part of the settings that names it, for messages.
        outlined: whether an outline of the folder is enough (originality.contract.outline).

    Raises:
        SettingsError: a hub's model without its commit or that does not exist, or a commit of anything else.
        StoreError: the bucket cannot be used, the prefix holds no model, or its files are not what its
            digests.json says.
        FetchError: this machine cannot fetch or keep them.
    """
    in_hub = not Path(uri).exists() and HUB_ID.fullmatch(uri) is not None
    if revision and not in_hub:
        raise SettingsError(
            f"{setting}.revision is for models of the hub, and {uri!r} is a folder or prefix; "
            f"use --set {setting}.revision=null"
        )
    if in_hub and not revision:
        if gone := moved(uri, setting):
            raise SettingsError(gone)
        raise SettingsError(
            f"{setting} {uri!r} is no folder here; give a folder of weights, or, for the hub's model of "
            f"that name, its commit: --set {setting}.revision=(40 hex digits)"
        )
    wanted = Wanted(parts, suffixes, variant)
    if in_hub:
        return from_hub(Commit(uri, str(revision), setting), wanted, outlined)
    return from_bucket(open_store(uri), wanted, outlined) if "://" in uri else None


# From the hub


# From a bucket
