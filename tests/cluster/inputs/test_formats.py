"""Formats by extension and by content, and files that lack only their end."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cluster.inputs.decoder import Decoder
from cluster.inputs.images import EXTENSIONS, FORMATS, NOTE, Limits, Rejection, decode
from tests.support.image_bytes import noise, profile, saved, tiff

NOISE = noise()
BOX = b"\0\0\0\x18ftyp"


def rejected(data: bytes, limits: Limits | None = None) -> tuple[str, str]:
    with pytest.raises(Rejection) as caught:
        decode(data, limits or Limits())
    return caught.value.reason_code, caught.value.message


def test_extensions_of_cameras_and_programs() -> None:
    assert {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".apng", ".tif", ".tiff", ".dib"} <= set(EXTENSIONS)
    assert (".heic" in EXTENSIONS) == ("HEIF" in FORMATS)


@pytest.mark.skipif("HEIF" in FORMATS, reason="pillow-heif is installed")
def test_heic_names_the_package_to_install() -> None:
    for brands in (b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0mif1heic", b"hevc\0\0\0\0hevcheic"):
        code, message = rejected(BOX + brands + bytes(100))
        assert code == "unsupported" and "HEIC" in message and "pip install pillow-heif" in message


@pytest.mark.skipif("HEIF" not in FORMATS, reason="pillow-heif is not installed")
def test_heic_if_it_can_be_read() -> None:
    exif = Image.Exif()
    exif[274] = 6
    smooth = Image.linear_gradient("L").resize((64, 32)).convert("RGB")
    data = saved(smooth, "HEIF", exif=exif.tobytes(), icc_profile=profile("RGB"))
    with Decoder() as decoder:
        turned = decoder.decode(data)
    assert turned.size == (32, 64) and not turned.info
    assert rejected(data[: len(data) // 2])[0] in ("corrupt", "truncated")


FOREIGN = {
    "JXL": b"\xff\x0a" + bytes(64),
    "JXL ": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(64),
    "JP2": saved(NOISE, "JPEG2000"),
    "JP2 ": saved(NOISE, "JPEG2000", no_jp2=True),
    "PSD": b"8BPS\0\1" + bytes(64),
    "EXR": b"\x76\x2f\x31\x01\2\0\0\0" + bytes(64),
    "HDR": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n",
    "DDS": saved(NOISE, "DDS"),
    "ICO": saved(NOISE, "ICO"),
    "TGA": saved(NOISE, "TGA"),
    "PNM": saved(NOISE, "PPM"),
    "PCX": saved(NOISE, "PCX"),
    "SGI": saved(NOISE, "SGI"),
    "ICNS": saved(NOISE.resize((64, 64)), "ICNS"),
    "CR2": b"II*\0\x10\0\0\0CR\2\0" + bytes(100),
    "CR3": BOX + b"crx \0\0\0\1crx isom" + bytes(100),
    "RAF": b"FUJIFILMCCD-RAW 0201" + bytes(100),
    "ORF": b"IIRO\x08\0\0\0" + bytes(100),
    "RW2": b"IIU\0\x08\0\0\0" + bytes(100),
    "MP4": BOX + b"isom\0\0\2\0isommp42" + bytes(100),
    "MOV": BOX + b"qt  \0\0\2\0qt  \0\0\0\0" + bytes(100),
    "WebM": b"\x1aE\xdf\xa3\x9fB\x86\x81\1" + bytes(100),
    "AVI": b"RIFF\0\1\0\0AVI LIST" + bytes(100),
    "PDF": b"%PDF-1.7\n" + bytes(100),
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "SVG": b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- drawn -->\n<svg xmlns='http://www.w3.org/2000/svg'/>",
    "SVG ": b"<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'x' [<!ENTITY n 'y'>]>\n<svg width='9'/>",
    "DICOM": bytes(128) + b"DICM" + bytes(100),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_formats_are_named_with_a_fix(name: str) -> None:
    code, message = rejected(FOREIGN[name])
    assert code == "unsupported" and message.startswith(name.strip()) and "; " in message


def ascii_text(text: str) -> bytes:
    return text.encode() + b"\0"


def test_camera_raw_files_are_not_taken_for_their_thumbnails() -> None:
    """They are TIFFs, of which Pillow would read the thumbnail that comes first."""

    def raw(make: str, dng: bool, inner: int | None) -> bytes:
        """A thumbnail, and a second directory that describes the pixels behind it."""
        directory = struct.pack("<HHHII", 1, 262, 4, 1, inner or 0) + bytes(4)
        entries: dict[int, tuple[int, bytes]] = {271: (2, ascii_text(make))}
        if dng:
            entries[50706] = (1, b"\1\4\0\0")
        if inner is not None:
            entries[330] = (4, b"")
        thumbnail = tiff(bytes(range(16)))
        count = struct.unpack("<H", thumbnail[8:10])[0]
        old = [thumbnail[10 + 12 * i : 22 + 12 * i] for i in range(count)]
        at = 8 + 2 + 12 * (count + len(entries)) + 4
        body, new = b"", []
        for tag, (kind, value) in entries.items():
            if tag == 330:
                value = struct.pack("<I", at + 64)
            where = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", at + len(body))
            body += value if len(value) > 4 else b""
            new.append(struct.pack("<HHI", tag, kind, 1 if tag == 330 else len(value)) + where)
        old = [e[:8] + struct.pack("<I", at + 128) if e[:2] == struct.pack("<H", 273) else e for e in old]
        every = sorted([*old, *new], key=lambda entry: struct.unpack("<H", entry[:2]))
        head = thumbnail[:8] + struct.pack("<H", len(every)) + b"".join(every) + bytes(4)
        return head + body.ljust(64, b"\0") + directory.ljust(64, b"\0") + bytes(range(16))

    for make, name in (("NIKON CORPORATION", "NEF"), ("SONY", "ARW"), ("Unheard of", "camera raw")):
        code, message = rejected(raw(make, False, 32803))
        assert code == "unsupported" and message.startswith(name) and "as JPEG or TIFF" in message
    assert rejected(raw("Google", True, None))[1].startswith("DNG")
    assert rejected(tiff(bytes(16), photometric=32803))[1].startswith("camera raw")
    for plain in (raw("NIKON CORPORATION", False, None), raw("SONY", False, 2)):  # as cameras also write
        assert decode(plain).size == (4, 4)


def test_large_profiles_and_texts_of_a_png() -> None:
    """Profiles of 2 MiB are applied as in a TIFF; a larger one than any real profile is ignored, as there."""
    for size, form in ((2 * 2**20, "applied"), (17 * 2**20, "left out")):
        icc = profile("RGB") + bytes(size)
        pixels = [decode(saved(NOISE, kind, icc_profile=icc)).tobytes() for kind in ("PNG", "TIFF")]
        assert pixels[0] == pixels[1], form
        assert (pixels[0] == NOISE.tobytes()) == (form == "left out")
    text = PngInfo()
    text.add_text("Description", "x" * (3 * 2**20), zip=True)
    text.add_itxt("XML:com.adobe.xmp", "y" * (3 * 2**20), zip=True)
    text.add_text("plain", "z" * (70 * 2**20))
    assert decode(saved(NOISE, "PNG", pnginfo=text)).tobytes() == NOISE.tobytes()


def test_decompression_bombs_are_rejected_whatever_the_limit() -> None:
    bomb = zlib.compress(bytes(2**25))
    chunk = b"zTXt" + b"Title\0\0" + bomb
    whole = saved(NOISE, "PNG")
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    for at in (33, len(whole) - 12):
        assert decode(whole[:at] + framed + whole[at:]).tobytes() == NOISE.tobytes()
    code, message = rejected(whole, Limits(pixels=2399))
    assert code == "too-large" and "cluster.max_pixels" in message
    code, message = rejected(whole, Limits(bytes=100))
    assert code == "too-large" and "cluster.max_bytes" in message


def test_a_limit_above_pillows_own() -> None:
    """Pillow refuses more than 179 megapixels by itself."""
    wide = saved(Image.new("1", (60_000, 3_000)), "PNG")
    assert rejected(wide)[0] == "too-large"
    with Decoder(Limits(pixels=180_000_000), seconds=300) as decoder:
        assert decoder.decode(wide).size == (60_000, 3_000)


WAYS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True},
    "no subsampling": {"subsampling": 0},
    "restart rows": {"restart_marker_rows": 1},
    "restart blocks": {"restart_marker_blocks": 2, "progressive": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_lacks_only_its_end_marker(way: str, mode: str) -> None:
    whole = saved(noise(mode, 100, 70), "JPEG", **WAYS[way])
    assert whole.endswith(b"\xff\xd9")
    expected = decode(whole)
    assert not expected.info
    for tail in (b"", b"\xff", bytes(40)):
        found = decode(whole[:-2] + tail)
        assert found.tobytes() == expected.tobytes()
        assert set(found.info) == {NOTE} and "end marker" in found.info[NOTE]
    for kept in (0.3, 0.6, 0.9):
        assert rejected(whole[: int(len(whole) * kept)])[0] == "truncated"
    # a few blocks from the end, and where an interval between restart markers or a scan has just ended
    assert rejected(whole[:-20])[0] == "truncated"
    for marker in {i for i in range(len(whole) - 4) if whole[i] == 0xFF and 0xD0 <= whole[i + 1] <= 0xD7}:
        assert rejected(whole[:marker])[0] == "truncated"
    if whole.count(b"\xff\xda") > 1:
        assert rejected(whole[: whole.rindex(b"\xff\xda")])[0] == "truncated"


def test_bytes_behind_the_end_do_not_matter() -> None:
    for form in (form for form in FORMATS if form != "HEIF"):
        data = saved(NOISE, form)
        found = decode(data + b"PK\3\4" + bytes(1000))
        assert found.tobytes() == decode(data).tobytes() and not found.info


def test_pngs_and_gifs_without_an_end() -> None:
    for form, cut, output in (("PNG", 12, "IEND"), ("GIF", 1, "trailer")):
        whole = saved(NOISE, form)
        with Decoder() as decoder:
            found = decoder.decode(whole[:-cut])
        assert found.tobytes() == decode(whole).tobytes() and output in found.info[NOTE]
        assert rejected(whole[: len(whole) * 9 // 10])[0] == "truncated"
    frames = saved(NOISE, "GIF", save_all=True, append_images=[noise("L").convert("P")])
    assert not decode(frames).info and NOTE in decode(frames[:-200]).info


def test_a_broken_second_view_or_page() -> None:
    buffer = io.BytesIO()
    NOISE.save(buffer, "MPO", save_all=True, append_images=[Image.new("RGB", (60, 40), "red")])
    whole = buffer.getvalue()
    second = whole.index(b"\xff\xd9\xff\xd8") + 2
    broken = [whole[:second], whole[: second + 40], whole[:second] + bytes(len(whole) - second)]
    pages = saved(NOISE, "TIFF", save_all=True, append_images=[NOISE.rotate(180)])
    for first, data in [(saved(NOISE, "JPEG"), each) for each in (whole, *broken)]:
        difference = np.asarray(decode(data), int) - np.asarray(decode(first), int)
        assert np.abs(difference).max() == 0
    assert decode(pages[:-3000]).tobytes() == NOISE.tobytes()


def test_a_bmp_without_its_file_header() -> None:
    assert decode(saved(NOISE, "DIB")).tobytes() == NOISE.tobytes()
