"""Untrusted bytes to a safe RGB image, or a named rejection.

Reason codes are stable, as they end up in verdict rows: empty, not-an-image, too-large, too-small,
truncated, corrupt, unsupported.
"""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"II*\0", b"MM\0*", b"BM", b"GIF8")
_SMALLEST_SIDE = 2


@dataclass(frozen=True)
class Limits:
    """What is refused before it is decoded."""

    bytes: int = 200 * 2**20
    pixels: int = 80_000_000
    """Width times height."""


class Rejection(Exception):  # noqa: N818 - the name is the verdict's status
    """These bytes are no image that can be judged, and why."""

    def __init__(self, reason_code: str, message: str) -> None:
        super().__init__(reason_code, message)
        self.reason_code = reason_code
        self.message = message


def check_size(size: int, limits: Limits = Limits()) -> None:
    """Rejects by length alone: before fetching, where the length is known from a listing."""
    if size == 0:
        raise Rejection("empty", "the file holds no bytes")
    if size > limits.bytes:
        raise Rejection("too-large", f"{size} bytes; at most {limits.bytes} are read")


def decode(data: bytes, limits: Limits = Limits()) -> Image.Image:
    """Decodes one image: RGB, 8 bits, upright, on white where it was transparent; the first frame of several.

    Raises:
        Rejection: with the reason; no other exception comes out, whatever the bytes.
    """
    check_size(len(data), limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's of many pixels too: _check_pixels has our own limit
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_pixels(image, limits)
                image.load()
                return _to_rgb(_upright(image))
    except Rejection:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        raise Rejection("too-large", f"at most {limits.pixels} pixels are read") from error
    except UnidentifiedImageError as error:
        if data.startswith(_SIGNATURES):
            raise Rejection("truncated", "the file ends inside the image's header") from error
        known = ", ".join(FORMATS)
        raise Rejection("not-an-image", f"none of {known}") from error
    except Exception as error:
        # Codecs meet hostile bytes with whatever exception the damage happens to reach.
        cut = isinstance(error, EOFError | struct.error) or "truncated" in str(error).lower()
        raise Rejection("truncated" if cut else "corrupt", _first_line(error)) from error


def _check_pixels(image: Image.Image, limits: Limits) -> None:
    """From the header, before any pixel is decoded."""
    width, height = image.size
    if width * height > limits.pixels:
        raise Rejection("too-large", f"{width} x {height}; at most {limits.pixels} pixels are read")
    if min(width, height) < _SMALLEST_SIDE:
        raise Rejection("too-small", f"{width} x {height}; each side needs {_SMALLEST_SIDE} pixels")


def _upright(image: Image.Image) -> Image.Image:
    """As the camera was held. Damaged EXIF says nothing about the picture, so it is passed over."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.mode == "F":
        raise Rejection("unsupported", "32-bit float pixels; save the image with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits by its high byte; Pillow's own conversion clips everything to white."""
    grey = np.asarray(image)
    if grey.max() > 0xFFFF or grey.min() < 0:
        raise Rejection("unsupported", "32-bit pixels; save the image with 8 or 16 bits")
    return Image.fromarray((grey.astype(np.uint16) >> 8).astype(np.uint8))


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
