"""Image sets as files that other tools read: image folders with captions, and shards of WebDataset.

- Image folders as Hugging Face's ``datasets.load_dataset("imagefolder")`` reads them: ``00000/0000000.png``,
  ..., and in each folder a ``metadata.jsonl`` with a line for each image: "file_name", "text" (the caption)
  and what else is known.
- WebDataset: ``00000.tar``, ..., of each image a .png, a .txt (the caption) and a .json.

A part, which is a folder or a tar, is written as a whole, and follows from the set, the seed and its images'
numbers alone.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any, Literal

from originality.shapes.image_sets import ImageSet, Scene

Format = Literal["imagefolder", "webdataset"]


def png(scene: Scene, side: int) -> bytes:
    """The scene as a PNG of ``side`` x ``side`` pixels."""
    buffer = io.BytesIO()
    scene.image(side).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def about(scene: Scene) -> dict[str, Any]:
    """What is known of a scene, as plain values; places are in pixels of 64 x 64."""
    elements = [{"element": str(p.element), "x": round(p.x, 3), "y": round(p.y, 3)} for p in scene.placed]
    return {"text": scene.caption, "group": scene.group, "name": scene.name, "elements": elements}


def last_of(part: int, form: Format) -> str:
    """The file of a part that is written last: where it is, the part is whole."""
    return f"{part:05}/metadata.jsonl" if form == "imagefolder" else f"{part:05}.tar"


def files_of(
    images: ImageSet, seed: int, part: int, numbers: range, side: int, form: Format
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a part's files."""
    if form == "webdataset":
        yield last_of(part, form), shard(images, seed, numbers, side)
        return
    lines = []
    for number in numbers:
        scene = images.scene(seed, number)
        name = f"{number:07}.png"
        yield f"{part:05}/{name}", png(scene, side)
        lines.append(json.dumps({"file_name": name, **about(scene)}))
    yield last_of(part, form), ("\n".join(lines) + "\n").encode()


def shard(images: ImageSet, seed: int, numbers: range, side: int) -> bytes:
    """These images as one tar of WebDataset; the same numbers always give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number in numbers:
            scene = images.scene(seed, number)
            said = about(scene)
            for suffix, content in (
                ("json", json.dumps(said).encode()),
                ("png", png(scene, side)),
                ("txt", said["text"].encode()),
            ):
                entry = tarfile.TarInfo(f"{number:07}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
