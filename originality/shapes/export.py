"""Export image sets for other tools: image folders with captions, and WebDataset shards.

- Image folders as Hugging Face's ``datasets.load_dataset("imagefolder")`` reads them: ``00000/0000000.png``,
  ..., and in each folder a ``metadata.jsonl`` with a line for each image: "file_name", "text" (the caption)
  and the other values of :func:`about`.
- WebDataset: ``00000.tar``, ..., with a .png, a .txt (the caption) and a .json for each image.

A part is a folder or a tar file; its content depends on the set, the seed and its images' numbers alone.
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
    """A scene's caption, group, name and elements as plain values; places are in pixels of 64 x 64."""
    elements = [{"element": str(p.element), "x": round(p.x, 3), "y": round(p.y, 3)} for p in scene.placed]
    return {"text": scene.caption, "group": scene.group, "name": scene.name, "elements": elements}


def last_of(part: int, form: Format) -> str:
    """The file of a part that is written last: if it exists, the part is complete."""
    return f"{part:05}/metadata.jsonl" if form == "imagefolder" else f"{part:05}.tar"


def files_of(
    images: ImageSet, seed: int, part: int, numbers: range, side: int, form: Format
) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of a part's files, :func:`last_of` last."""
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
    """A WebDataset tar file of these images; the same numbers always give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number in numbers:
            scene = images.scene(seed, number)
            known = about(scene)
            for suffix, content in (
                ("json", json.dumps(known).encode()),
                ("png", png(scene, side)),
                ("txt", known["text"].encode()),
            ):
                entry = tarfile.TarInfo(f"{number:07}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
