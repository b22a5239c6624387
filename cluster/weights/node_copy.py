"""Weights of models and metrics on the machine that needs them, from a prefix of a bucket or from the hub.

They are copied once per node and shared by its workers: the first takes a lock and copies while the others
wait. A copy appears complete or not at all, under a name derived from the bucket's listing, so that a prefix
that changed gets a new copy. An interrupted copy is resumed. Every start checks the digests of the files it
uses, and damaged ones are fetched again. A machine that loads nothing may request an outline: the small
files, and only sizes and checksums of the weights.
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
    """The folder on this machine with the weights of a bucket's prefix or of a model of the hub, which are
    fetched if they are missing. None for any other name (a local folder, or a model that ships), for which
    nothing is to be fetched.

    Args:
        parts: names of the wanted files and folders at the top level of the model.
        revision: the commit of a model of the hub.
        suffixes: of the files that are fetched. If pickles are among them, they must be read as tensors only.
        variant: which of the files of weights (originality.contract.weight_variants).
        setting: the section of the settings that names the model, for messages.
        outlined: whether an outline of the folder is enough (originality.contract.outline).

    Raises:
        SettingsError: a model of the hub is named without a commit or does not exist, or a commit is given
            for anything else.
        StoreError: the bucket cannot be read, the prefix contains no model, or its files do not match its
            digests.json.
        FetchError: this machine cannot fetch or write them.
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
            f"{setting} {uri!r} is not a local folder; give a folder of weights, or, for the hub's model of "
            f"that name, its commit: --set {setting}.revision=(40 hex digits)"
        )
    wanted = Wanted(parts, suffixes, variant)
    if in_hub:
        return from_hub(Commit(uri, str(revision), setting), wanted, outlined)
    return from_bucket(open_store(uri), wanted, outlined) if "://" in uri else None
