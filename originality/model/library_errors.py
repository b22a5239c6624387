"""What diffusers and transformers raise and print, turned into our own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from originality.contract.config import SettingsError
from originality.contract.faults import is_machine_fault, line_of


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing progress bars on stderr while it reads weights."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


@contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Turn an error of the libraries into a SettingsError of one line that names the folder.

    Args:
        what: the folder, or the part of it, that is read meanwhile; the message begins with it.

    Raises:
        SettingsError: in place of any error but the machine's (memory, disk, GPU), which another machine may
            not have: those pass unchanged.
    """
    try:
        yield
    except SettingsError:
        raise
    except Exception as error:  # over damaged files the libraries raise bare Exception too
        if is_machine_fault(error):
            raise
        raise SettingsError(
            f"{what} cannot be loaded ({line_of(error)}); provide the complete folder, as save_pretrained "
            "writes it"
        ) from error
