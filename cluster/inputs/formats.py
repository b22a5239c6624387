"""Image formats by extension and by content: those that are decoded, and those that are only recognised.

A file that is recognised but not decoded is rejected by the name of its format, with a fix, so that nobody
has to guess what a file with a wrong extension is.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

from PIL import TiffImagePlugin, features

_KNOWN = {
    "JPEG": ("jpg", (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".mpo", ".jps")),
    "PNG": ("zlib", (".png", ".apng")),
    "WEBP": ("webp", (".webp",)),
    "TIFF": ("libtiff", (".tif", ".tiff")),
    "BMP": (None, (".bmp", ".dib")),
    "GIF": (None, (".gif",)),
    "AVIF": ("avif", (".avif", ".avifs")),
}
"""By format: the feature that Pillow has to be built with, and the extensions. MPO and JPS are JPEGs with a
second view."""
_HEIF_EXTENSIONS = (".heic", ".heif", ".hif")


def _pillow_has(feature: str | None) -> bool:
    """Whether Pillow was built with a feature. It is looked up first, as Pillow warns about features that it
    does not know (an older version about AVIF)."""
    known = {**features.modules, **features.codecs}
    return feature is None or (feature in known and bool(features.check(feature)))


def _register_heif() -> bool:
    """Register the reader of HEIF; whether the extra ``heif`` is installed. Its wheel contains GPL code (the
    x265 encoder), so it is not required. It gets one thread, because the decoder process limits its address
    space, and each thread takes some."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener(decode_threads=1)
    return True


_HEIF = _register_heif()
_BUILT_IN = tuple(name for name, (feature, _) in _KNOWN.items() if _pillow_has(feature))
FORMATS = (*_BUILT_IN, "HEIF") if _HEIF else _BUILT_IN
"""Formats that are decoded here, by Pillow's names."""
EXTENSIONS = tuple(
    extension for name in FORMATS for extension in (_KNOWN[name][1] if name in _KNOWN else _HEIF_EXTENSIONS)
)
"""Extensions of these formats, in lower case."""

_STILL = "convert it to JPEG or PNG"
_RAW = "export it from the camera's or a photo program as JPEG or TIFF"
_DRAWN = "export the page as PNG"
_FILM = "save the frames that you mean as JPEG or PNG"
_FIXES = {
    "HEIC": f"{_STILL}, or pip install pillow-heif",
    "AVIF": f"{_STILL}, or install a Pillow that reads it (11.3 or newer)",
}


@dataclass(frozen=True)
class Foreign:
    """The format of a file that is recognised by its content, but not decoded here."""

    name: str
    fix: str

    def __str__(self) -> str:
        return f"{self.name} is not read here; {self.fix}"


_BY_BEGINNING: tuple[tuple[str, str, bytes], ...] = (
    ("PSD", _STILL, rb"8BPS"),
    ("EXR", _STILL, rb"\x76\x2f\x31\x01"),
    ("HDR (Radiance)", _STILL, rb"#\?(RADIANCE|RGBE)"),
    ("JXL (JPEG XL)", _STILL, rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    ("JP2 (JPEG 2000)", _STILL, rb"\0\0\0\x0cjP(  |\x1a\x1a)\r\n\x87\n|\xff\x4f\xff\x51"),
    ("JXR (JPEG XR)", _STILL, rb"II\xbc[\0\x01]"),
    ("DDS", _STILL, rb"DDS "),
    ("ICO", _STILL, rb"\0\0\x01\0[^\0]\0"),
    ("CUR", _STILL, rb"\0\0\x02\0[^\0]\0"),
    ("ICNS", _STILL, rb"icns"),
    ("QOI", _STILL, rb"qoif"),
    ("PNM", _STILL, rb"P[1-7][\s#]|P[Ff]\n"),
    ("PCX", _STILL, rb"\x0a[\0\x02-\x05]\x01[\x01\x02\x04\x08]"),
    ("SGI", _STILL, rb"\x01\xda[\0\x01][\x01\x02]"),
    ("Sun raster", _STILL, rb"\x59\xa6\x6a\x95"),
    ("XCF", _STILL, rb"gimp xcf"),
    ("BPG", _STILL, rb"BPG\xfb"),
    ("FLIF", _STILL, rb"FLIF"),
    ("MNG", _STILL, rb"\x8a[MJ]NG\r\n\x1a\n"),
    ("KTX", _STILL, rb"\xabKTX [12]"),
    ("DPX", _STILL, rb"SDPX|XPDS"),
    ("Cineon", _STILL, rb"\x80\x2a\x5f\xd7"),
    ("FITS", _STILL, rb"SIMPLE  ="),
    ("DICOM", _STILL, rb"[\s\S]{128}DICM"),
    ("DjVu", _DRAWN, rb"AT&TFORM"),
    ("CR2 (camera raw)", _RAW, rb"II\*\0[\s\S]{4}CR"),
    ("CRW (camera raw)", _RAW, rb"II\x1a\0\0\0HEAPCCDR"),
    ("RAF (camera raw)", _RAW, rb"FUJIFILMCCD-RAW"),
    ("ORF (camera raw)", _RAW, rb"IIR[OS]|MMOR"),
    ("RW2 (camera raw)", _RAW, rb"IIU\0"),
    ("X3F (camera raw)", _RAW, rb"FOVb"),
    ("MRW (camera raw)", _RAW, rb"\0MRM"),
    ("PDF", _DRAWN, rb"%PDF-"),
    ("EPS or PostScript", _DRAWN, rb"%!PS|\xc5\xd0\xd3\xc6"),
    ("WMF", _DRAWN, rb"\xd7\xcd\xc6\x9a"),
    ("EMF", _DRAWN, rb"\x01\0\0\0[\s\S]{36} EMF"),
    ("WebM or Matroska", _FILM, rb"\x1aE\xdf\xa3"),
    ("AVI", _FILM, rb"RIFF[\s\S]{4}AVI "),
    ("FLV", _FILM, rb"FLV\x01"),
    ("MPEG", _FILM, rb"\0\0\x01[\xba\xb3]"),
    ("WMV", _FILM, rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    ("Ogg", _FILM, rb"OggS"),
    ("QuickTime", _FILM, rb"[\s\S]{4}(moov|mdat|wide|pnot)"),
)  # fmt: skip
"""Name, fix, and how such files begin."""
_BEGINNINGS = tuple((name, fix, re.compile(pattern)) for name, fix, pattern in _BY_BEGINNING)

_BRANDS = (
    ("HEIC", None, (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")),
    ("AVIF", None, (b"avif", b"avis")),
    ("CR3 (camera raw)", _RAW, (b"crx ",)),
    ("JP2 (JPEG 2000)", _STILL, (b"jp2 ", b"jpx ", b"jpm ")),
    ("HEIF", _FIXES["HEIC"], (b"mif1", b"mif2", b"msf1")),
    ("MOV", _FILM, (b"qt  ",)),
)  # fmt: skip
"""Formats in boxes (ISO 14496-12) by their brands; the first match counts. No fix: it depends on what is
installed."""
_MOST_BRANDS = 64

_SVG_HEAD = 8192
"""Bytes in which the first element of an SVG is looked for."""
_TGA_END = b"TRUEVISION-XFILE.\0"

_DNG_VERSION, _MAKE, _SUB_DIRECTORIES, _PHOTOMETRIC = 50706, 271, 330, 262
_SENSOR = (32803, 34892)
"""Photometric interpretations: the colour filters of a sensor, and what they measured."""
_MAKERS = {
    "NIKON": "NEF", "SONY": "ARW", "PENTAX": "PEF", "RICOH": "PEF", "CANON": "CR2", "SAMSUNG": "SRW",
    "HASSELBLAD": "3FR", "PHASE ONE": "IIQ", "LEICA": "RWL", "EPSON": "ERF", "KODAK": "DCR",
}  # fmt: skip
"""Raw formats by camera maker. All are TIFFs, in which Pillow would find at most a thumbnail."""


def foreign(data: bytes) -> Foreign | None:
    """The format of a file that cannot be opened; None if its content does not tell, or it is decoded
    here."""
    if data[4:8] == b"ftyp":
        return _boxed(data)
    for name, fix, beginning in _BEGINNINGS:
        if beginning.match(data):
            return Foreign(name, fix)
    if _is_svg(data[:_SVG_HEAD]):
        return Foreign("SVG", _DRAWN)
    return Foreign("TGA", _STILL) if data.endswith(_TGA_END) else None


def _is_svg(text: bytes) -> bool:
    """Whether the first element of an XML text is ``svg``."""
    text = text.removeprefix(b"\xef\xbb\xbf").lstrip()
    while text.startswith((b"<?xml", b"<!--")):
        text = text.partition(b"-->" if text.startswith(b"<!--") else b">")[2].lstrip()
    return re.match(rb"<svg[\s>/]|<!DOCTYPE svg\b", text) is not None


def camera_raw(data: bytes) -> Foreign | None:
    """The raw format of a camera; None if the file is not one. Pillow reads such a file as a TIFF, and would
    decode the thumbnail that comes first."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return None
    if data[8:10] == b"CR":
        return Foreign("CR2 (camera raw)", _RAW)
    try:
        return _raw_by_tags(data)
    except Exception:  # damaged: the decoder reports that
        return None


def _raw_by_tags(data: bytes) -> Foreign | None:
    tags = _directory(data, None)
    if _DNG_VERSION in tags:
        return Foreign("DNG (camera raw)", _RAW)
    inner = tags.get(_SUB_DIRECTORIES, ())
    below = [_directory(data, at) for at in (inner if isinstance(inner, tuple) else (inner,))[:8]]
    if not any(directory.get(_PHOTOMETRIC) in _SENSOR for directory in (tags, *below)):
        return None
    make = str(tags.get(_MAKE, "")).upper()
    names = (f"{name} (camera raw)" for maker, name in _MAKERS.items() if maker in make)
    return Foreign(next(names, "camera raw"), _RAW)


def _directory(data: bytes, at: int | None) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Tags of a TIFF's directory: the first one, or that at an offset."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    stream = io.BytesIO(data)
    stream.seek(directory.next if at is None else at)
    directory.load(stream)
    return directory


def _boxed(data: bytes) -> Foreign | None:
    size = min(int.from_bytes(data[:4], "big"), 16 + 4 * _MOST_BRANDS)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, size, 4))}
    for name, fix, known in _BRANDS:
        if brands.intersection(known):
            read = name in FORMATS or (name == "HEIC" and "HEIF" in FORMATS)
            return None if read else Foreign(name, fix or _FIXES[name])
    return Foreign("3GP" if data[8:10] == b"3g" else "MP4", _FILM)
