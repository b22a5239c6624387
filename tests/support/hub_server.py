"""A stand-in of the Hugging Face hub that speaks huggingface_hub's protocol, for one model."""

from __future__ import annotations

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.weight_processes import COMMIT, UNET


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's protocol that a download needs, for one folder."""

    def __init__(self, folder: Path, requested: list[str], *rest: object) -> None:
        self.folder, self.requested = folder, requested
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if "/runwayml/" in path:  # as the hub answers who is not known to it
            return self._answer(401, b'{"error": "Invalid username or password."}', {"X-Error-Code": ""})
        if "/gated/" in path:
            return self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
        if "/org/shapes/" not in path:
            return self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        if COMMIT not in path:
            return self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if path.startswith("/api/models/"):
            return self._answer(200, json.dumps(self._tree()).encode(), {"Content-Type": "application/json"})
        name = path.partition(f"/resolve/{COMMIT}/")[2]
        self.requested.append(f"{self.command} {name}")
        for status in (401, 403):
            if f"refuse {status}" in self.requested:
                return self._answer(status, b"", {"X-Error-Code": "GatedRepo"})
        data = (self.folder / name).read_bytes()
        if f"wrong {name}" in self.requested:
            data = data[:-1] + bytes([data[-1] ^ 1])
        headers = {"ETag": f'"{blob_name(name, data)}"', "X-Repo-Commit": COMMIT}
        if wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            self.requested.append(f"from {wanted[1]}")
            return self._answer(206, data[int(wanted[1]) :], headers)
        if "cut" in self.requested and self.command == "GET" and name == UNET:
            self.close_connection = True
            headers["Content-Length"] = str(len(data))
            return self._answer(200, data[:1000], headers)
        return self._answer(200, data, headers)

    def _tree(self) -> list[dict[str, object]]:
        tree = []
        for file in sorted(f for f in self.folder.rglob("*") if f.is_file()):
            name, data = file.relative_to(self.folder).as_posix(), file.read_bytes()
            entry: dict[str, object] = {
                "type": "file",
                "path": name,
                "size": len(data),
                "oid": git_sha1(data),
            }
            if name.endswith(".safetensors"):
                entry["lfs"] = {"oid": blob_name(name, data), "size": len(data), "pointerSize": 134}
            tree.append(entry)
        return tree

    def _answer(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def blob_name(name: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if name.endswith(".safetensors") else git_sha1(data)
