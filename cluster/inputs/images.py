"""Decodes untrusted bytes to an RGB image, or rejects them with a reason code.

Reason codes are stable, as they are recorded in verdict rows: empty, not-an-image, too-large, too-small,
truncated, corrupt, unsupported. ``cluster.inputs.decoder`` does the same in a separate process, and adds
codes for the ways in which that process can end.
"""

from __future__ import annotations

import functools
import io
import struct
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageCms, PngImagePlugin, UnidentifiedImageError

from cluster.inputs import png_chunks
from cluster.inputs.endings import completed, cut_short, lacks_end
from cluster.inputs.formats import EXTENSIONS, FORMATS, camera_raw, foreign
from originality.contract.redaction import Masked, masked

__all__ = ["EXTENSIONS", "FORMATS", "NOTE", "Limits", "OutOfMemory", "Rejection", "check_size", "decode"]

Image.MAX_IMAGE_PIXELS = None
"""Pillow's own bound is turned off: it is not a setting of ours. ``Limits.pixels`` is checked before any
pixel is decoded."""

NOTE = "note"
"""Key in the ``info`` of a decoded image: a remark on its file, to be recorded in its row."""
_NO_END = {
    "JPEG": "the JPEG lacks its end marker; every row of it is there",
    "PNG": "the PNG lacks its end chunk (IEND); every row of it is there",
    "GIF": "the GIF lacks its trailer; its first frame is there",
}

_SMALLEST_SIDE = 2
_SHORTEST_FILE = 64
"""Bytes. A file that begins like an image, is shorter than this and cannot be decoded was truncated in its
header."""
_UNSUPPORTED = ("unknown pixel mode", "cannot handle", "pixel depth", "bitfields layout", "bmp compression")
"""How Pillow reports a valid file of a kind that it does not read."""

_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC = 274, 258, 262
"""Tags of TIFF; EXIF has the first one too."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation, the transposition that undoes it."""

_MOST_PROFILE_BYTES = 16 * 2**20
PngImagePlugin.MAX_TEXT_CHUNK = _MOST_PROFILE_BYTES
"""Bytes of one profile or text, unpacked. Pillow's own bound, 1 MiB, refuses images with large profiles."""
PngImagePlugin.MAX_TEXT_MEMORY = 256 * 2**20
"""Bytes of all texts of a file: more than a file within ``Limits.bytes`` holds uncompressed."""
_REMOVABLE = (png_chunks.PROFILE, png_chunks.TEXTS, png_chunks.PROFILE | png_chunks.TEXTS)
"""Chunks for which Pillow may refuse a PNG, in the order in which the picture is tried without them."""
_DEVICE_CLASSES = ("mntr", "scnr", "prtr", "spac")
"""Classes of ICC profiles that define an image's colours; the other classes link or adapt profiles."""
_ROUNDING = 2
"""Of 255. A profile that changes no colour by more than the variants of sRGB differ counts as sRGB."""


@dataclass(frozen=True)
class Limits:
    """Limits beyond which a file is rejected before it is decoded."""

    bytes: int = 200 * 2**20
    """``cluster.max_bytes``"""
    pixels: int = 80_000_000
    """Width times height; ``cluster.max_pixels``."""


class Rejection(Masked):
    """These bytes are not an image that can be judged; with the reason."""

    def __init__(self, reason_code: str, message: str) -> None:
        super().__init__(reason_code, message)
        self.reason_code = reason_code
        self.message = masked(message)


class OutOfMemory(Rejection):
    """A rejection as too-large because the memory did not suffice, not because of a limit."""

    def __init__(self) -> None:
        super().__init__("too-large", "decoding takes more memory than is available")


def check_size(size: int, limits: Limits = Limits()) -> None:
    """Reject a file by its size alone: before it is fetched, if the size is known from a listing.

    Raises:
        Rejection: empty or too-large.
    """
    if size == 0:
        raise Rejection("empty", "the file contains no bytes")
    if size > limits.bytes:
        raise Rejection("too-large", f"{size} bytes; at most {limits.bytes} are read (cluster.max_bytes)")


def decode(data: bytes, limits: Limits = Limits()) -> Image.Image:
    """Decode one image to RGB of 8 bits: converted to sRGB by its colour profile, upright by its EXIF
    orientation, on white where it was transparent, the first frame of several. Its ``info`` contains at most
    a ``NOTE``.

    Raises:
        Rejection: with the reason. No other exception is raised, whatever the bytes.
    """
    check_size(len(data), limits)
    if not lacks_end(data):
        return _decoded(data, limits)
    kind = "JPEG" if data.startswith(b"\xff\xd8") else "PNG" if data.startswith(b"\x89") else "GIF"
    image = _completed(data, limits) if kind == "JPEG" else _decoded(data, limits)
    image.info[NOTE] = _NO_END[kind]
    return image


def _completed(data: bytes, limits: Limits) -> Image.Image:
    """Decode a JPEG that lacks its end marker and nothing else.

    Raises:
        Rejection: truncated, if more is missing.
    """
    image: Image.Image | None = None
    # completed() yields the file with different fillers in place of what may be missing. If the pictures
    # differ, the fillers are visible in them.
    for candidate in completed(data):
        other = _decoded(candidate, limits)
        if image is not None and ImageChops.difference(image, other).getbbox():
            image = None
            break
        image = image or other
    if image is None:
        raise Rejection("truncated", "the JPEG ends before its last rows")
    return image


def _decoded(data: bytes, limits: Limits) -> Image.Image:
    """Decode a complete file.

    Raises:
        Rejection: with the reason.
    """
    try:
        rgb = _read(data, limits)
    except Rejection:
        raise
    except Exception as error:
        # Given hostile bytes, codecs raise any exception that the damage happens to trigger.
        if (plain := _read_plain(data, limits)) is None:
            raise _refusal(error, data) from error
        rgb = plain
    # The profile has been applied: a copy saved with it would be converted a second time.
    rgb.info.clear()
    return rgb


def _read(data: bytes, limits: Limits) -> Image.Image:
    """Decode with Pillow.

    Raises:
        Rejection: with the reason.
        Exception: any that a codec raises over damaged bytes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if (raw := camera_raw(data)) is not None:
            raise Rejection("unsupported", str(raw))
        with _open(data) as image:
            _check_pixels(image, limits)
            _check_palette(image)
            image.load()
            return _upright(_to_rgb(image), image)


def _read_plain(data: bytes, limits: Limits) -> Image.Image | None:
    """Decode a PNG without its profile, its texts or both; None if that does not help.

    They are not part of the picture. As few as possible are removed, because profiles define the colours and
    texts may hold the orientation.
    """
    for kinds in _REMOVABLE:
        if (plain := png_chunks.without(data, kinds)) is not None:
            try:
                return _read(plain, limits)
            except Rejection:
                raise
            except Exception:  # the first error is the one that is reported
                continue
    return None


def _open(data: bytes) -> Image.Image:
    """Read the header of a file.

    Pillow does not tell why it could not open a file. So the plugin of the format that accepts the first
    bytes is called once more directly, for its error.
    """
    try:
        return Image.open(io.BytesIO(data), formats=(*FORMATS, "DIB"))  # a BMP without its file header
    except UnidentifiedImageError:
        if (other := foreign(data)) is not None:
            raise Rejection("unsupported", str(other)) from None
        for name in FORMATS:
            factory, accepts = Image.OPEN[name]
            if accepts is not None and accepts(data[:16]) is True:
                factory(io.BytesIO(data), "")
        raise Rejection("not-an-image", f"not one of {', '.join(FORMATS)}") from None


def _refusal(error: Exception, data: bytes) -> Rejection:
    """The rejection for an exception of a codec."""
    reason = _first_line(error)
    if isinstance(error, MemoryError) or "out of memory" in reason.lower():
        return OutOfMemory()
    if any(phrase in reason.lower() for phrase in _UNSUPPORTED):
        return Rejection("unsupported", reason)
    ends = isinstance(error.__cause__ or error, EOFError | IndexError | struct.error)
    if ends or len(data) < _SHORTEST_FILE or "truncated" in reason.lower() or cut_short(data):
        return Rejection("truncated", reason)
    return Rejection("corrupt", reason)


def _check_pixels(image: Image.Image, limits: Limits) -> None:
    """Check the size of a picture from its header, before any pixel is decoded.

    Raises:
        Rejection: too-large or too-small.
    """
    width, height = image.size
    if width * height > limits.pixels:
        most = f"at most {limits.pixels} pixels are read (cluster.max_pixels)"
        raise Rejection("too-large", f"{width} x {height}; {most}")
    if min(width, height) < _SMALLEST_SIDE:
        raise Rejection("too-small", f"{width} x {height}; each side needs {_SMALLEST_SIDE} pixels")


def _check_palette(image: Image.Image) -> None:
    """Reject a PNG without the palette that it refers to: Pillow would use a default palette."""
    if image.format == "PNG" and image.mode == "P" and not (image.palette and image.palette.palette):
        raise Rejection("corrupt", "the PNG lacks the palette (PLTE) that its pixels refer to")


def _upright(picture: Image.Image, image: Image.Image) -> Image.Image:
    """The picture rotated as EXIF states. Damaged EXIF is ignored."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return picture
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB of 8 bits in sRGB, on white where it is transparent."""
    profile = image.info.get("icc_profile")
    image = _eight_bits(image)
    transform = _to_srgb(profile, image.mode)
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return _toned(image, transform)
    layer = image.convert("RGBA")
    if transform is not None:
        colour = _toned(layer, transform)
        colour.putalpha(layer.getchannel("A"))
        layer = colour
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _toned(image: Image.Image, transform: ImageCms.ImageCmsTransform | None) -> Image.Image:
    """Convert to RGB, by the transform if there is one."""
    if transform is None:
        return image.convert("RGB")
    return transform.apply(image.convert(transform.input_mode))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert 16-bit grey to 8 bits by its high byte; Pillow's own conversion would clip nearly everything to
    white. Pillow itself converts 16-bit colour to 8 bits on loading."""
    if image.mode == "F":
        raise Rejection("unsupported", "32-bit float pixels; save the image with 8 or 16 bits")
    if image.mode in ("La", "RGBa"):
        return image.convert(image.mode.upper())
    if not image.mode.startswith("I"):
        return image
    grey = np.asarray(image)
    if grey.max() > 0xFFFF or grey.min() < 0:
        raise Rejection("unsupported", "32-bit pixels; save the image with 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})
    high = (grey.astype(np.uint16) >> (min(max(tags.get(_BITS_PER_SAMPLE, (16,))), 16) - 8)).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == 0:
        high = 255 - high  # zero means white: Pillow inverts that for 8 bits, but not for 16
    shallow = Image.fromarray(high)
    if "transparency" in image.info:
        shallow.putalpha(Image.fromarray((grey != image.info["transparency"]).astype(np.uint8) * 255))
    return shallow


def _to_srgb(profile: object, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from the embedded profile to sRGB; None if the profile is missing, damaged, does not
    match the mode, or is sRGB."""
    if not isinstance(profile, bytes) or len(profile) > _MOST_PROFILE_BYTES or mode == "LAB":
        return None
    try:
        return _transform(profile, {"CMYK": "CMYK", "1": "L", "L": "L", "LA": "L"}.get(mode, "RGB"))
    except Exception:
        return None


@functools.lru_cache(maxsize=4)  # most collections come from few cameras
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile to sRGB; None if it would change nothing. Over a damaged profile it raises
    any exception."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = {"L": "GRAY"}.get(mode, mode)
    if source.profile.xcolor_space.strip() != space or source.profile.device_class not in _DEVICE_CLASSES:
        return None
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,  # keeps white white and black black, as in Photoshop
    )
    return transform if mode == "CMYK" or _moves(transform, mode) else None


def _moves(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform changes any of a few thousand colours by more than rounding."""
    levels = np.arange(0, 256, 15 if mode == "RGB" else 1, dtype=np.uint8)
    colours = np.stack(np.meshgrid(*[levels] * len(mode)), axis=-1).reshape(1, -1, len(mode))
    before = Image.fromarray(colours.squeeze(-1) if mode == "L" else colours)
    change = ImageChops.difference(before.convert("RGB"), transform.apply(before))
    return bool(np.asarray(change).max() > _ROUNDING)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
