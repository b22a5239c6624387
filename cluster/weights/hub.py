"""Models of Hugging Face's hub at a commit: their list of files, and their copies on this machine.

A commit never changes, so its list of files is requested only once. The list has a checksum of each file. Big
ones have a sha256, by which a run's digest is known before anything big is downloaded; small ones have git's
sha1. A copy in the hub library's own cache is used if it is complete.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from cluster.storage.hub_datasets import without_hub_warnings
from cluster.weights.hub_moves import moved
from cluster.weights.wanted import SMALL, Wanted
from originality.contract import outline
from originality.contract.config import SettingsError
from originality.contract.download import (
    Download,
    FetchError,
    check_disk_space,
    disk_errors_explained,
    scratch_in,
)
from originality.contract.node_cache import cache_path, sha256
from originality.contract.transfer_progress import Progress


class Entry(NamedTuple):
    """A file of a commit."""

    size: int
    """Bytes."""
    checksum: str
    """In hex digits: sha256 (64 digits), or git's sha1 of a blob (40)."""

    @property
    def is_big(self) -> bool:
        """Whether the hub stores it apart from git, as it does with weights."""
        return len(self.checksum) == 64

    def is_in(self, file: Path) -> bool:
        """Whether a file on this machine has this size and checksum."""
        try:
            if file.stat().st_size != self.size:
                return False
            return (sha256(file) if self.is_big else _git_sha1(file)) == self.checksum
        except OSError:
            return False


def _git_sha1(file: Path) -> str:
    data = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Commit:
    """A model of the hub at a commit."""

    repository: str
    revision: str
    setting: str = "model"
    """The section of the settings that names it, for messages."""

    @property
    def folder(self) -> Path:
        """Folder of its files on this machine."""
        return cache_path() / "hub" / self.repository.replace("/", "--") / self.revision

    @property
    def library_folder(self) -> Path:
        """Folder in which the hub's own library would have it."""
        from huggingface_hub import constants

        name = self.repository.replace("/", "--")
        return Path(constants.HF_HUB_CACHE) / f"models--{name}" / "snapshots" / self.revision

    def entries(self) -> dict[str, Entry]:
        """Its files, by path.

        Raises:
            SettingsError: there is no such model or commit, or it is not public.
            FetchError: the hub does not answer.
        """
        kept = self.folder.with_suffix(".json")
        with suppress(OSError, ValueError, TypeError, AttributeError):
            return {path: Entry(*about) for path, about in json.loads(kept.read_text()).items()}
        try:
            found = self._listed()
        except FetchError:
            if not (found := _entries_from_links(self.library_folder)):
                raise
            return found  # only the files that were requested through that library
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(f".{hashlib.sha256(str(found).encode()).hexdigest()[:8]}.part")
            part.write_text(json.dumps(found))
            part.replace(kept)
        return found

    def _listed(self) -> dict[str, Entry]:
        from huggingface_hub import HfApi, constants, errors  # slow to import, and rarely needed
        from huggingface_hub.hf_api import RepoFile

        name = self.repository
        try:
            with without_hub_warnings():
                tree = list(HfApi().list_repo_tree(name, revision=self.revision, recursive=True))
        except errors.GatedRepoError as error:
            raise SettingsError(
                f"the hub shows {name} only to accounts that accepted its licence: do so at "
                f"{constants.ENDPOINT}/{name}, then set HF_TOKEN"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise SettingsError(
                moved(name, self.setting)
                or f"the hub has no model {name} (or a private one: set HF_TOKEN), and there is no such "
                "folder"
            ) from error
        except errors.RevisionNotFoundError as error:
            raise SettingsError(
                f"the hub's model {name} has no commit {self.revision}; set its revision to one"
            ) from error
        except Exception as error:  # of any kind: it depends on the library's network stack
            gone = moved(name, self.setting)
            if gone and getattr(getattr(error, "response", None), "status_code", None) in (401, 404):
                raise SettingsError(gone) from error
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise FetchError(
                f"{name} at {self.revision} is not complete in {self.folder.parent}, and the hub "
                f"{constants.ENDPOINT} is unavailable or HF_HUB_OFFLINE is set ({reason}); go online once, "
                f"or fill a folder or prefix elsewhere (originality models fetch {name} --revision "
                f"{self.revision} --to s3://…) and give that as the model" + (f" ({gone})" if gone else "")
            ) from error
        files = (file for file in tree if isinstance(file, RepoFile))
        return {f.path: Entry(f.size, f.lfs.sha256 if f.lfs else f.blob_id) for f in files}

    def copy(self, entries: Mapping[str, Entry]) -> Path:
        """The folder on this machine with these files; missing ones are fetched.

        Raises:
            FetchError: a file cannot be fetched or written.
        """
        if (complete := self.complete_folder(entries)) is not None:
            return complete
        self.fill(self.folder, entries)
        return self.folder

    def complete_folder(self, entries: Mapping[str, Entry]) -> Path | None:
        """A folder with all of these files, undamaged; None if there is none."""
        for folder in (self.folder, self.library_folder):
            if all(entry.is_in(folder / path) for path, entry in entries.items()):
                return folder
        return None

    def outline(self, small: Mapping[str, Entry], big: Mapping[str, Entry]) -> Path:
        """A folder with the small files, and only size and checksum of the big ones.

        Raises:
            FetchError: a file cannot be fetched or written.
        """
        self.fill(self.folder, small)
        with disk_errors_explained(self.folder):
            outline.write(self.folder, {path: outline.Absent(*entry) for path, entry in big.items()})
        return self.folder

    def fill(self, folder: Path, entries: Mapping[str, Entry]) -> None:
        """Fetch the files that are missing in a folder, or damaged.

        Raises:
            FetchError: a file cannot be fetched or written.
            SettingsError: the hub refuses the files.
        """
        try:
            with disk_errors_explained(folder), scratch_in(folder, self.repository) as scratch:
                missing = {path: entry for path, entry in entries.items() if not entry.is_in(folder / path)}
                if missing:
                    self._fetch(missing, folder, scratch)
        except FetchError as error:
            if error.status in (401, 403):
                raise SettingsError(
                    f"{self.repository}: the hub refuses its files ({error.status}); accept its licence on "
                    "its page there, and set HF_TOKEN to a token of that account"
                ) from error
            raise FetchError(
                f"{self.repository} cannot be fetched from the hub: {error}; start again to resume, or "
                "give a folder of weights"
            ) from error

    def _fetch(self, missing: Mapping[str, Entry], folder: Path, scratch: Path) -> None:
        from huggingface_hub import constants
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        if constants.HF_HUB_OFFLINE:
            lacking = (path for path, entry in missing.items() if not entry.is_in(self.library_folder / path))
            raise FetchError(
                f"it is not complete in {folder} or {self.library_folder}, or damaged "
                f"({min(lacking, default='')}), and HF_HUB_OFFLINE is set; go online once"
            )
        size = sum(entry.size for entry in missing.values())
        size -= sum(file.stat().st_size for file in scratch.iterdir())
        check_disk_space(folder, size, f"{self.repository} from the hub")
        what = f"{self.repository} from {urlsplit(constants.ENDPOINT).netloc.rpartition('@')[2]}"
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        with Progress(what, size) as progress:
            for path, entry in sorted(missing.items()):
                place = f"{self.repository}/resolve/{self.revision}/{quote(path)}"
                url = f"{constants.ENDPOINT}/{place}"
                digest = entry.checksum if entry.is_big else None
                Download(url, folder / path, scratch, entry.size, digest, headers).fetch(progress)
                if not entry.is_in(folder / path):
                    (folder / path).unlink()
                    raise FetchError(f"{url}: not the published file (checksum mismatch)")


def _entries_from_links(folder: Path) -> dict[str, Entry]:
    """The list of files from a snapshot of the hub's library, where each file is a link to one that is named
    by its checksum. Empty on systems without links."""
    found = {}
    for link in (file for file in folder.rglob("*") if file.is_symlink() and file.exists()):
        name = link.readlink().name
        if re.fullmatch("[0-9a-f]{40}([0-9a-f]{24})?", name):
            found[link.relative_to(folder).as_posix()] = Entry(link.stat().st_size, name)
    return found


def from_hub(commit: Commit, wanted: Wanted, outlined: bool) -> Path:
    """The folder of the copy on this machine; see :func:`cluster.weights.node_copy.local_copy`."""
    known = commit.entries()
    entries = {path: known[path] for path in wanted.select(known)}
    if not entries:
        raise SettingsError(
            f"{commit.repository} at {commit.revision} has none of {', '.join(wanted.parts)}; name another "
            "model of the hub"
        )
    big = {path: entry for path, entry in entries.items() if Path(path).suffix not in SMALL}
    if not outlined or not all(entry.is_big for entry in big.values()):
        return commit.copy(entries)
    if (complete := commit.complete_folder(entries)) is not None:
        return complete
    return commit.outline({path: entries[path] for path in entries.keys() - big.keys()}, big)
