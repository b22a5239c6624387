"""Download of DreamSim's weights from where their authors publish them.

An interrupted download resumes where it stopped, and a file gets its final name only once it is complete.
Archives are checked against the checksums within them, since the authors publish none of the archives
themselves. The digest of each downloaded file is entered in digests.json; a file that does not match it is
downloaded again. DINO's hub code is downloaded for the dreamsim package, which runs it; nothing here does.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from originality.contract.config import SettingsError
from originality.contract.download import (
    NOT_FOUND_STATUSES,
    Download,
    FetchError,
    disk_errors_explained,
    scratch_in,
)
from originality.contract.faults import first_line
from originality.contract.node_cache import sha256
from originality.contract.transfer_progress import Progress
from originality.evaluation.distance.dreamsim_weights import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    BACKBONES,
    DIGESTS,
    DINO,
    Branch,
    adapter_folder,
    check,
    digests_in,
    files_of,
    how_to_fetch,
)

DINO_HEAD = "dino_vitb16_pretrain.pth"
"""DINO's projection, in the archives. The package reads it, but does not use it for a distance."""

DINO_CODE = "facebookresearch_dino_main"
"""Where ``torch.hub.load("facebookresearch/dino:main")`` looks first; see torch/hub.py."""
CODE_FILES = ("hubconf.py", "vision_transformer.py", "utils.py")
"""Files of DINO's repository that ``dino_vitb16`` imports."""

DINO_COMMIT = "7c446df5b9f45747937fb0d72314eb9f7b66930a"
"""Commit of facebookresearch/dino, pinned because branches move. Many projects cite it (found by its links in
public code, such as github.com/facebookresearch/dino/blob/7c446df5.../vision_transformer.py)."""

_CHUNK = 1 << 20

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Sources:
    """Addresses of the files."""

    archives: str = (
        "https://github.com/ssundaram21/dreamsim/releases/download/v0.2.0-checkpoints/"
        "dreamsim_{branch}_checkpoint.zip"
    )
    """As dreamsim 0.2.1 has them in its config.py."""
    dino: str = "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth"
    """Address of the backbone in DINO's own hubconf.py."""
    dino_code: str = f"https://github.com/facebookresearch/dino/zipball/{DINO_COMMIT}"

    @classmethod
    def mirrored(cls, at: str) -> Sources:
        """The same files on a mirror, under the last part of their names; the code as "dino.zip"."""
        names = (source.rpartition("/")[2] for source in (cls.archives, cls.dino))
        return cls(*(f"{at.rstrip('/')}/{name}" for name in (*names, "dino.zip")))


PUBLISHED = Sources()


def fetch(
    folder: Path,
    branch: Branch = "ensemble",
    sources: Sources = PUBLISHED,
    *,
    package: bool = False,
    tell: Tell = lambda line: None,
) -> Path:
    """Download the files of a branch that are missing or do not match their digests.

    Args:
        package: also download what only the dreamsim package needs, so that it can load the folder offline.
        tell: called with a line of text on progress now and then.

    Raises:
        SettingsError: the files are not published at the address.
        FetchError: no connection, a download that keeps failing, or a folder that cannot be written.
    """
    if not package and _is_complete(folder, branch):
        return folder
    try:
        with disk_errors_explained(folder), scratch_in(folder, "DreamSim's weights") as scratch:
            if package or not _is_complete(folder, branch):
                _Fetching(folder, scratch, tell).bring(branch, sources, package)
    except (FetchError, _NotPublished, ValueError) as error:
        nowhere = not isinstance(error, FetchError) or error.status in NOT_FOUND_STATUSES
        raise (SettingsError if nowhere else FetchError)(
            f"DreamSim's weights could not be downloaded to {folder} ({first_line(error)}): connect this "
            "machine and run the same command again to resume; or fill a folder or prefix on a connected one "
            f"({how_to_fetch(branch, 's3://BUCKET/weights/dreamsim')}) and set distance.folder to it; "
            "or set distance.metric to imagenet, which needs no download"
        ) from error
    files_of(folder, branch)
    return folder


class _NotPublished(Exception):  # noqa: N818 - a state of a file, not an error of the program
    """A file is in none of the published archives."""


def _is_complete(folder: Path, branch: Branch) -> bool:
    """Whether all files exist and match digests.json, if there is one: the package itself writes none."""
    try:
        return bool(check(folder, branch))
    except SettingsError:
        return False


@dataclass(frozen=True)
class _Fetching:
    folder: Path
    scratch: Path
    tell: Tell

    def bring(self, branch: Branch, sources: Sources, package: bool) -> None:
        """Download and unpack every file of a branch that is not intact."""
        dino, lora = DINO in BACKBONES[branch], adapter_folder(branch)
        wanted = [name for name in BACKBONES[branch] if name != DINO] + [f"{lora}/{ADAPTER_CONFIG}"]
        wanted += [DINO_HEAD] if dino and package else []
        adapters = [f"{lora}/{name}" for name in ADAPTER_WEIGHTS]
        if not (all(map(self._is_intact, wanted)) and any(map(self._is_intact, adapters))):
            archive = self._download(sources.archives.format(branch=branch))
            self._unpack(archive, {name: name for name in (*wanted, *adapters)})
        if dino and not self._is_intact(DINO):
            self._place(self._download(sources.dino), DINO)
            self._enter([DINO])
        code = {name: f"{DINO_CODE}/{name}" for name in CODE_FILES}
        if dino and package and not all(map(self._is_intact, code.values())):
            archive = self._download(sources.dino_code)
            with _opened(archive) as members:
                top = members.namelist()[0].partition("/")[0]
            self._unpack(archive, {f"{top}/{name}": to for name, to in code.items()})
            wanted += code.values()
        missing = [name for name in wanted if not self._is_intact(name)]
        if missing:
            raise _NotPublished(f"the published archives lack {', '.join(missing)}")

    def _is_intact(self, name: str) -> bool:
        file = self.folder / name
        return file.is_file() and self._entered().get(name) == sha256(file)

    def _entered(self) -> dict[str, str]:
        try:
            return digests_in(self.folder)
        except SettingsError:  # damaged, so that no file's digest is known
            return {}

    def _enter(self, names: Iterable[str]) -> None:
        """Enter the digests of files as they are now."""
        digests = self._entered() | {name: sha256(self.folder / name) for name in names}
        written = self.scratch / DIGESTS
        written.write_text(json.dumps(digests, indent=2, sort_keys=True))
        self._place(written, DIGESTS)

    def _place(self, file: Path, name: str) -> None:
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)

    def _unpack(self, archive: Path, names: Mapping[str, str]) -> None:
        """Move these members of an archive to their places, and remove the archive."""
        unpacked, member = [], self.scratch / "member"
        with _opened(archive) as members:
            for name in sorted(names.keys() & set(members.namelist())):
                with members.open(name) as source, member.open("wb") as file:
                    shutil.copyfileobj(source, file, _CHUNK)  # checks the checksum when it reaches the end
                self._place(member, names[name])
                unpacked.append(names[name])
        self._enter(unpacked)
        archive.unlink()

    def _download(self, url: str) -> Path:
        """Download the file at an address to the scratch folder; returns its path."""
        wanted = Download(url, self.scratch / re.sub(r"[^\w.-]", "_", url.rpartition("/")[2]), self.scratch)
        if not wanted.to.exists():  # otherwise an earlier call completed it before something else failed
            what = f"{wanted.name} of DreamSim from {urlsplit(url).netloc}"
            with Progress(what, report=self.tell) as progress:
                wanted.fetch(progress)
        return wanted.to


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """An opened archive. A damaged one is removed, because resuming its download would not repair it."""
    try:
        with zipfile.ZipFile(archive) as members:
            yield members
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        archive.unlink(missing_ok=True)
        raise FetchError(f"{archive.name} is damaged: {error}") from error
