"""Random-weight stand-ins for DreamSim's folder, whose real weights are a download away.

The stand-in has the files, the names and the formats of the real folder, DINO's hub code included
(ours, made of timm), so that the real dreamsim package loads it offline.
"""

from __future__ import annotations

import io
import socket
import threading
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch

from originality.evaluation.distance.dreamsim import hub_folder_restored
from originality.evaluation.distance.dreamsim_fetch import CODE_FILES, DINO_CODE, DINO_HEAD
from originality.evaluation.distance.dreamsim_weights import DINO, Branch, files_of

NORM = partial(torch.nn.LayerNorm, eps=1e-6)
"""As in DINO and timm."""

FULL = {"embed_dim": 768, "depth": 12, "num_heads": 12}
TINY = {"embed_dim": 48, "depth": 12, "num_heads": 3}

HUB_CODE = {
    "hubconf.py": """
import torch
import vision_transformer
dependencies = ["torch", "timm"]
URL = "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth"

def dino_vitb16(pretrained=True):
    model = vision_transformer.vit_base()
    model.load_state_dict(torch.hub.load_state_dict_from_url(URL, map_location="cpu"))
    return model
""",
    "vision_transformer.py": """
from timm.models.vision_transformer import VisionTransformer
from utils import SHAPE

def vit_base():
    return VisionTransformer(img_size=224, patch_size=16, num_classes=0, **SHAPE)
""",
    "utils.py": "SHAPE = {shape!r}",
}
"""Files of DINO's repository, which import each other as the real ones do."""


@contextmanager
def package_undone() -> Iterator[None]:
    """Lets the real package do what it does to the process, and undoes it."""
    with hub_folder_restored(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def random_like(state: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Weights with which a transformer tells images apart, stored in bf16 to spare the disk."""
    rng = torch.Generator().manual_seed(seed)
    out = {}
    for name, value in state.items():
        noise = torch.randn(value.shape, generator=rng)
        scaled = 1 + 0.1 * noise if "norm" in name and name.endswith("weight") else 0.08 * noise
        out[name] = scaled.to(torch.bfloat16)
    return out


def save_clip(path: Path, vit: Any, projected: int, seed: int) -> None:
    vit.pos_drop = torch.nn.LayerNorm(vit.embed_dim)
    state = random_like(vit.state_dict(), seed)
    proj = torch.randn(vit.embed_dim, projected, generator=torch.Generator().manual_seed(seed))
    torch.save({"state_dict": {**state, "proj": proj}}, path)


def save_dino(folder: Path, vit: Any, shape: dict[str, int]) -> None:
    (folder / "checkpoints").mkdir()
    torch.save(random_like(vit.state_dict(), 1), folder / "checkpoints" / "dino_vitbase16_pretrain.pth")
    (folder / "facebookresearch_dino_main").mkdir()
    for name, code in HUB_CODE.items():
        text = code.replace("{shape!r}", repr(shape))
        (folder / "facebookresearch_dino_main" / name).write_text(text)
    head = {
        f"module.head.{name}": torch.zeros(1)
        for layer in (0, 2, 4)
        for name in (f"mlp.{layer}.weight", f"mlp.{layer}.bias")
    }
    torch.save(
        {"student": {**head, "module.head.last_layer.weight": torch.zeros(1)}},
        folder / "dino_vitb16_pretrain.pth",
    )


def save_adapter(folder: Path, branch: str) -> None:
    """LoRA of rank 16 on "qkv", as DreamSim's, with an effect (peft begins with none)."""
    from dreamsim.config import dreamsim_args
    from dreamsim.model import PerceptualModel
    from peft import LoraConfig, get_peft_model

    base = PerceptualModel(**dreamsim_args["model_config"][branch], device="cpu", load_dir=str(folder))
    config = LoraConfig(r=16, lora_alpha=8, lora_dropout=0.3, bias="none", target_modules=["qkv"])
    tuned = get_peft_model(base, config)
    rng = torch.Generator().manual_seed(9)
    for name, weight in tuned.named_parameters():
        if "lora_" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=rng)
    name = "ensemble_lora" if branch == "ensemble" else f"{branch}_single_lora"
    tuned.save_pretrained(str(folder / name))


def package_distances(folder: Path, branch: str, images: np.ndarray) -> np.ndarray:
    """The real package's ``model(a, b)`` of the first image with each, one pair at a time."""
    from dreamsim import dreamsim
    from PIL import Image

    with package_undone(), torch.inference_mode():
        model, preprocess = dreamsim(device="cpu", cache_dir=str(folder), dreamsim_type=branch)
        tensors = [preprocess(Image.fromarray(image)) for image in images]
        return np.array([model(tensors[0], t).item() for t in tensors])


class Published:
    """What DreamSim's and DINO's authors publish, on a server that can misbehave."""

    def __init__(self, folder: Path, branches: Sequence[Branch]) -> None:
        """Archives of a whole folder's branches; each also holds what has no business there."""
        self.files = {f"dreamsim_{branch}_checkpoint.zip": archive_of(folder, branch) for branch in branches}
        self.files["dino_vitbase16_pretrain.pth"] = (folder / DINO).read_bytes()
        code = {f"dino-7c446df/{name}": (folder / DINO_CODE / name).read_bytes() for name in CODE_FILES}
        self.files["dino.zip"] = zipped({"dino-7c446df/": b"", **code, "dino-7c446df/eval.py": b""})
        self.requested: list[tuple[str, str]] = []
        """File and range of each request."""
        self.faults: dict[str, str | int] = {}
        """What is wrong with the next answer for a file: a status, "hang up", or after how many bytes it
        breaks off."""
        self.tags = dict.fromkeys(self.files, '"1"')

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.rpartition("/")[2]
        wanted = request.headers.get("Range", "")
        self.requested.append((name, wanted))
        fault = self.faults.pop(name, None)
        data = self.files.get(name)
        if fault == "hang up":
            return request.connection.shutdown(socket.SHUT_RDWR)
        if data is None or fault in (403, 404, 503):
            return request.send_error(int(fault or 404))
        start, tag = 0, self.tags[name]
        if wanted and request.headers.get("If-Range") == tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(data):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(data)}")
            request.send_header("Content-Length", "0")
            return request.end_headers()
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(data) - start))
        if tag:
            request.send_header("ETag", tag)
        request.end_headers()
        request.wfile.write(data[start : int(fault) if fault else None])
        request.close_connection = True
        return None


def archive_of(folder: Path, branch: Branch) -> bytes:
    """A branch's archive, as its authors publish it, and files that have no business there."""
    paths = [f for f in files_of(folder, branch) if f != folder / DINO]
    if branch in ("ensemble", "dino_vitb16"):
        paths.append(folder / DINO_HEAD)
    named = {f.relative_to(folder).as_posix(): f.read_bytes() for f in paths}
    return zipped({**named, "../escaped": b"x", "other.pth": b"x"})


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@contextmanager
def serving(published: Published) -> Iterator[str]:
    """Address of a server on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            published.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
