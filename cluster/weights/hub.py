"""Models of Hugging Face's hub at a commit: what belongs to one, and its files on this machine.

A commit never changes, so its list of files is asked for once. It has a checksum of each file: big ones have
a sha256, by which a run's digest is known before anything big is downloaded; small ones have git's sha1. A
copy in the hub library's own cache is used where it is complete.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

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
    """sha256 (64 hex digits) or git's sha1 of a blob (40)."""

    @property
    def is_big(self) -> bool:
        return len(self.checksum) == 64

    def is_in(self, file: Path) -> bool:
        """Whether a file is this one."""
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
    """A model of the hub as it was at a commit."""

    repository: str
    revision: str
    setting: str = "model"
    """The part of the settings that names it, for messages."""

    @property
    def folder(self) -> Path:
        """Where its files are kept on this machine."""
        return cache_path() / "hub" / self.repository.replace("/", "--") / self.revision

    @property
    def librarys(self) -> Path:
        """Where the hub's own library keeps it."""
        from huggingface_hub import constants

        name = self.repository.replace("/", "--")
        return Path(constants.HF_HUB_CACHE) / f"models--{name}" / "snapshots" / self.revision

    def entries(self) -> dict[str, Entry]:
        """Its files, by path.

        Raises:
            SettingsError: there is no such model or commit, or it may not be seen.
            FetchError: the hub does not answer.
        """
        kept = self.folder.with_suffix(".json")
        with suppress(OSError, ValueError, TypeError, AttributeError):
            return {path: Entry(*about) for path, about in json.loads(kept.read_text()).items()}
        try:
            found = self._listed()
        except FetchError:
            if not (found := _of_links(self.librarys)):
                raise
            return found  # as far as that library was asked for them
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(f".{hashlib.sha256(str(found).encode()).hexdigest()[:8]}.part")
            part.write_text(json.dumps(found))
            part.replace(kept)
        return found

    def _listed(self) -> dict[str, Entry]:
        from huggingface_hub import HfApi, constants, errors  # heavy, and seldom needed
        from huggingface_hub.hf_api import RepoFile

        name = self.repository
        try:
            with _no_warnings():
                tree = list(HfApi().list_repo_tree(name, revision=self.revision, recursive=True))
        except errors.GatedRepoError as error:
            raise SettingsError(
                f"the hub shows {name} only to who accepted its licence: do so at "
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
        except Exception as error:  # of the library's network stack, whichever it is
            gone = moved(name, self.setting)
            if gone and getattr(getattr(error, "response", None), "status_code", None) in (401, 404):
                raise SettingsError(gone) from error
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise FetchError(
                f"{name} at {self.revision} is not complete in {self.folder.parent}, and the hub "
                f"{constants.ENDPOINT} is out of reach or HF_HUB_OFFLINE is set ({reason}); go online once, "
                f"or fill a folder or prefix elsewhere (originality models fetch {name} --revision "
                f"{self.revision} --to s3://…) and give that as the model" + (f" ({gone})" if gone else "")
            ) from error
        files = (file for file in tree if isinstance(file, RepoFile))
        return {f.path: Entry(f.size, f.lfs.sha256 if f.lfs else f.blob_id) for f in files}

    def copy(self, entries: Mapping[str, Entry]) -> Path:
        """A folder on this machine with these of its files; what is missing is fetched.

        Raises:
            FetchError: a file cannot be fetched or kept.
        """
        if (complete := self.kept(entries)) is not None:
            return complete
        self.fill(self.folder, entries)
        return self.folder

    def kept(self, entries: Mapping[str, Entry]) -> Path | None:
        """The folder that has all of these files, undamaged; None where there is none."""
        for folder in (self.folder, self.librarys):
            if all(entry.is_in(folder / path) for path, entry in entries.items()):
                return folder
        return None

    def outline(self, small: Mapping[str, Entry], big: Mapping[str, Entry]) -> Path:
        """A folder with the small files; of the others only what they are.

        Raises:
            FetchError: a file cannot be fetched or kept.
        """
        self.fill(self.folder, small)
        with disk_errors_explained(self.folder):
            outline.write(self.folder, {path: outline.Absent(*entry) for path, entry in big.items()})
        return self.folder

    def fill(self, folder: Path, entries: Mapping[str, Entry]) -> None:
        """Fetches into a folder what is missing there or damaged.

        Raises:
            FetchError: a file cannot be fetched or kept.
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
                f"{self.repository} cannot be fetched from the hub: {error}; start again, it resumes from "
                "here, or give a folder of weights"
            ) from error

    def _fetch(self, missing: Mapping[str, Entry], folder: Path, scratch: Path) -> None:
        from huggingface_hub import constants
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        if constants.HF_HUB_OFFLINE:
            lacking = (path for path, entry in missing.items() if not entry.is_in(self.librarys / path))
            raise FetchError(
                f"it is not complete in {folder} or {self.librarys}, or damaged "
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
                    raise FetchError(f"{url}: not the file that is published (its checksum is different)")


@contextmanager
def _no_warnings() -> Iterator[None]:
    """The hub's library logs each of its retries; the outcome is reported here."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _of_links(folder: Path) -> dict[str, Entry]:
    """What a snapshot of the hub's library says of its files: each is a link to one that is named by its
    checksum; on systems without links nothing is known of it."""
    found = {}
    for link in (file for file in folder.rglob("*") if file.is_symlink() and file.exists()):
        name = link.readlink().name
        if re.fullmatch("[0-9a-f]{40}([0-9a-f]{24})?", name):
            found[link.relative_to(folder).as_posix()] = Entry(link.stat().st_size, name)
    return found


def from_hub(commit: Commit, wanted: Wanted, outlined: bool) -> Path:
    known = commit.entries()
    entries = {path: known[path] for path in wanted.among(known)}
    if not entries:
        raise SettingsError(
            f"{commit.repository} at {commit.revision} holds none of {', '.join(wanted.parts)}; name another "
            "model of the hub"
        )
    big = {path: entry for path, entry in entries.items() if Path(path).suffix not in SMALL}
    if not outlined or not all(entry.is_big for entry in big.values()):
        return commit.copy(entries)
    if (complete := commit.kept(entries)) is not None:
        return complete
    return commit.outline({path: entries[path] for path in entries.keys() - big.keys()}, big)
