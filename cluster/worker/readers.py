"""How a worker turns the bytes of an input into the content of an item."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cluster.inputs.decoder import Decoder
from cluster.inputs.images import NOTE, Limits, Rejection


@dataclass(frozen=True)
class Content:
    """An input's content, as the scorer takes it."""

    value: Any
    pixels: int = 0
    """Decoded pixels that it keeps in memory, three bytes each."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Columns of the item's record that come from its file, such as a note on what the file lacks."""


class Reader(Protocol):
    """Reads the bytes of one input at a time."""

    def read(self, data: bytes) -> Content:
        """Read one input.

        Raises:
            Rejection: the bytes are nothing that a scorer can take; the input is recorded as rejected.
        """
        ...

    def close(self) -> None:
        """Free what the reader holds."""
        ...


ReaderFactory = Callable[[Limits], Reader]
"""Builds a reader in the worker's process; picklable. The limits are the run's."""


class ImageReader:
    """Reads images, in a child process: a hostile file may crash or hang its decoder, not the worker."""

    def __init__(self, limits: Limits) -> None:
        self._decoder = Decoder(limits)

    def read(self, data: bytes) -> Content:
        """Decode an image to RGB, upright."""
        image = self._decoder.decode(data)
        note = {NOTE: image.info[NOTE]} if NOTE in image.info else {}
        return Content(image, image.width * image.height, note)

    def close(self) -> None:
        """End the process that decodes images."""
        self._decoder.close()


class DocumentReader:
    """Reads JSON objects."""

    def __init__(self, limits: Limits) -> None:
        """``limits`` are of images, and only there so that every reader is built alike."""

    def read(self, data: bytes) -> Content:
        """Parse a JSON object."""
        try:
            return Content(dict(json.loads(data).items()))
        except (ValueError, AttributeError) as error:
            raise Rejection("corrupt", f"not a JSON object: {error}") from error

    def close(self) -> None:
        """Nothing to free."""
