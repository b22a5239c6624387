"""What diffusers and transformers raise and print, made our own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from originality.contract.config import SettingsError
from originality.contract.faults import is_machine_fault, line_of


@contextmanager
def without_bars() -> Iterator[None]:
    """Keeps transformers from drawing on stderr how it reads weights; afterwards it is as it was."""
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Whatever the libraries raise over a folder, as one line that names it. They raise bare ``Exception``
    too."""
    try:
        yield
    except SettingsError:
        raise
    except Exception as error:
        if is_machine_fault(error):
            raise
        raise SettingsError(
            f"folder {folder} cannot be used ({line_of(error)}); give a whole one, as transformers' "
            "save_pretrained writes it"
        ) from error


@contextmanager
def loading(model: str, part: str = "") -> Iterator[None]:
    """Whatever the libraries raise over a damaged folder, as one line that names the folder, and the part of
    it where that is known. They raise bare ``Exception`` too."""
    try:
        yield
    except SettingsError:
        raise
    except Exception as error:
        if is_machine_fault(error):
            raise
        of = f": its {part}" if part else ""
        raise SettingsError(
            f"model folder {model!r}{of} cannot be loaded ({line_of(error)}); "
            "give a whole diffusers folder, as StableDiffusionPipeline.save_pretrained writes it"
        ) from error
