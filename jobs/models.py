"""Download weights to a folder or bucket, for machines without internet access.

``originality models fetch dreamsim --to DIR`` fills a folder (or bucket prefix) for the setting
``distance.folder``, which the dreamsim package can load offline too. ``originality models fetch ORG/NAME
--revision COMMIT --to DIR`` fills one for ``--model`` with a model from the Hugging Face hub. Run the same
command again to resume an interrupted download or to complete a partly filled folder.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.storage.store import absolute, open_store
from cluster.weights.hub import Commit
from cluster.weights.node_copy import HUB_ID
from cluster.weights.upload import put
from cluster.weights.wanted import Wanted
from jobs.commandline import exits
from originality.contract.config import SettingsError, commit_of
from originality.contract.node_cache import check_cache
from originality.contract.transfer_progress import to_stderr
from originality.evaluation.distance.dreamsim_fetch import DINO_CODE, DINO_HEAD, PUBLISHED, Sources, fetch
from originality.evaluation.distance.dreamsim_weights import (
    BRANCHES,
    Branch,
    cache_folder,
    digests_in,
    parts_of,
)
from originality.model import transformers_folder

_log = logging.getLogger(__name__)

DREAMSIM = "dreamsim"


def fetch_dreamsim(branch: Branch, to: str, sources: Sources = PUBLISHED) -> None:
    """Fill a folder or bucket prefix with a branch of DreamSim.

    For a bucket, the files are first downloaded to this machine's own cache folder, then uploaded.

    Raises:
        SettingsError: the address does not publish these files.
        FetchError: no connection, a broken download, or a folder that cannot be written.
        StoreError: the bucket cannot be used.
    """
    store = open_store(to) if "://" in to else None
    folder = cache_folder() if store else Path(to)
    fetch(folder, branch, sources, package=True, tell=to_stderr)
    if store:
        parts = {*parts_of(branch), DINO_CODE, DINO_HEAD}
        put({name: folder / name for name in digests_in(folder) if name.partition("/")[0] in parts}, store)


def fetch_model(name: str, revision: str | None, to: str, variant: str = "auto") -> None:
    """Fill a folder or bucket prefix with a model from the hub at a commit.

    For a bucket, the files are first downloaded to this machine's cache folder, then uploaded.

    Raises:
        SettingsError: the model or commit does not exist, or access to it is denied.
        FetchError: the hub cannot be reached, or the files cannot be stored on this machine.
        StoreError: the bucket cannot be used.
    """
    from originality.model.diffusers_folder import PARTS
    from originality.vision.clip_towers import TOWERS

    try:
        revision = commit_of("--revision")(revision)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if not revision or not HUB_ID.fullmatch(name):
        raise SettingsError(
            f"{name!r} is neither {DREAMSIM!r} nor a hub model at a commit; give ORG/NAME and --revision "
            "COMMIT (40 hex digits)"
        )
    commit = Commit(name, revision)
    known = commit.entries()
    # A diffusion model has a folder per network; the files of a detector lie at the top.
    parts = PARTS if any(path.startswith("unet/") for path in known) else transformers_folder.PARTS
    entries = {path: known[path] for path in Wanted((*parts, *TOWERS), variant=variant).select(known)}
    if not entries:
        raise SettingsError(f"{name} at {revision} has no safetensors weights of a supported kind")
    store = open_store(to)
    if "://" in to:
        folder = commit.copy(entries)
    else:
        folder = Path(to)
        commit.fill(folder, entries)
    put({path: folder / path for path in entries}, store)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("what", choices=("fetch",), help="download weights to a folder or bucket")
    parser.add_argument("name", help=f"{DREAMSIM!r}, or a model on the Hugging Face hub as ORG/NAME")
    parser.add_argument(
        "--to", required=True, metavar="DIR", help="folder, or s3://, gs:// or az:// prefix, to fill"
    )
    parser.add_argument("--branch", choices=BRANCHES, help="branch of DreamSim (default: ensemble)")
    parser.add_argument("--revision", metavar="COMMIT", help="commit of the hub model, 40 hex digits")
    parser.add_argument(
        "--variant",
        help="variant of the hub model's weights: auto, none or fp16 (default: auto, see model.variant)",
    )
    parser.add_argument("--mirror", metavar="URL", help="address of a mirror of DreamSim's files")


def run(arguments: argparse.Namespace) -> int:
    """Run the command with parsed arguments; the exit code."""
    to = absolute(arguments.to)
    check_cache()
    not_applicable = ("revision", "variant") if arguments.name == DREAMSIM else ("branch", "mirror")
    for name in not_applicable:
        if getattr(arguments, name) is not None:
            raise SettingsError(f"--{name} does not apply to {arguments.name}; leave it out")
    if arguments.name == DREAMSIM:
        sources = Sources.mirrored(arguments.mirror) if arguments.mirror else PUBLISHED
        fetch_dreamsim(arguments.branch or "ensemble", to, sources)
        _log.info("complete; use it with --set distance.folder=%s", to)
    else:
        fetch_model(arguments.name, arguments.revision, to, arguments.variant or "auto")
        _log.info("complete; use it with --model %s", to)
    print(to)
    return exits.ALL_JUDGED


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m jobs.models``; the exit code."""
    return exits.main("originality models", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
