"""Images as Python code has them: a path or URI, bytes, a PIL image or an array."""

from __future__ import annotations

import hashlib
import io
import os
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from cluster.inputs.decoder import Decoder
from cluster.inputs.identities import image_id_of, unread_id
from cluster.inputs.images import Rejection, check_size, decode
from cluster.inputs.sources import Unreadable, read_image
from cluster.storage.store import absolute

ImageLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
"""A path or URI, the bytes of a file, a PIL image, or an array uint8 (height, width[, 3 or 4])."""

_LOSSLESS = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
"""Modes that a PNG keeps as they are."""


class Unusable(Exception):  # noqa: N818 - it becomes a verdict, not an error
    """An image that cannot be judged: its id, and why."""

    def __init__(self, image_id: str, code: str, message: str) -> None:
        super().__init__(image_id, code, message)
        self.image_id, self.code, self.message = image_id, code, message


class Reader:
    """Reads images as an audit does, so that their ids and pixels are the audit's."""

    def __init__(self) -> None:
        self._decoder = Decoder()

    def close(self) -> None:
        """End the process that decodes images."""
        self._decoder.close()

    def read(self, image: ImageLike) -> tuple[str, Image.Image]:
        """The id of an image, and its RGB pixels, upright and in sRGB.

        The id of a file is the SHA-256 of its bytes, as in an audit. An image from memory has no file: its id
        is that of its pixels. All random numbers of a verdict depend on the id.

        Raises:
            Unusable: it cannot be read or decoded.
            TypeError, ValueError: it is no image, or an array of another form.
        """
        if isinstance(image, (str, os.PathLike)):
            return self._from_uri(absolute(os.fspath(image)))
        if isinstance(image, bytes):
            return self._from_bytes(image)
        if isinstance(image, np.ndarray):
            image = _from_array(image)
        if isinstance(image, Image.Image):
            return _from_memory(image)
        raise TypeError(
            f"cannot judge a {type(image).__name__}; give a path, a URI, bytes, a PIL image or an array"
        )

    def _from_uri(self, uri: str) -> tuple[str, Image.Image]:
        try:
            data = read_image(uri, lambda size: check_size(size) if size else None)
        except (Unreadable, Rejection) as error:
            raise Unusable(unread_id(uri), error.reason_code, error.message) from error
        return self._from_bytes(data)

    def _from_bytes(self, data: bytes) -> tuple[str, Image.Image]:
        image_id = image_id_of(data)
        try:
            return image_id, self._decoder.decode(data)
        except Rejection as error:
            raise Unusable(image_id, error.reason_code, error.message) from error


def _from_array(array: np.ndarray) -> Image.Image:
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (3, 4))
    ):
        raise ValueError(
            f"an array of dtype {array.dtype} and shape {array.shape} is no image; give uint8 of shape "
            "(height, width), (height, width, 3) or (height, width, 4)"
        )
    return Image.fromarray(array)


def _from_memory(image: Image.Image) -> tuple[str, Image.Image]:
    """Through a lossless file, so that transparency, palettes, depth and profiles are treated as a file's."""
    upright: Any = ImageOps.exif_transpose(image)
    if upright.mode not in _LOSSLESS:
        upright = upright.convert("RGB")
    buffer = io.BytesIO()
    upright.save(buffer, "PNG", compress_level=1)
    try:
        pixels = decode(buffer.getvalue())
    except Rejection as error:
        raise Unusable(image_id_of(buffer.getvalue()), error.reason_code, error.message) from error
    # not of the PNG: its bytes depend on the version of zlib
    size = f"{pixels.width}x{pixels.height} RGB ".encode()
    return hashlib.sha256(size + pixels.tobytes()).hexdigest(), pixels
