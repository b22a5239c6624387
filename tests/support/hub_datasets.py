"""A stand-in of the Hugging Face hub for data sets: huggingface_hub's protocol, and files by ranges.

Large files are redirected to a different address, as the hub does, where the user's token must not arrive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from types import MappingProxyType
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.support.weight_processes import serving

COMMIT, LATER = "c" * 40, "d" * 40
PAGE = 3
"""Entries of one page of a listing."""
TOKEN = "hf_" + "t" * 34


@dataclass
class HubState:
    """What the stand-in serves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Of org/pictures, at every commit."""
    commit: str = COMMIT
    """What the branch main is."""
    is_private: bool = False
    large: int = 100
    """Bytes from which a file is redirected."""
    fails: list[int] = field(default_factory=list)
    """Status codes with which the next requests are answered."""
    requests: list[str] = field(default_factory=list)
    """Method, path and range of each."""
    leaked: list[str] = field(default_factory=list)
    """Requests to the other address that had the token."""
    elsewhere: str = ""
    """That address."""
    url: str = ""
    """The address of the hub."""


class DatasetHub(BaseHTTPRequestHandler):
    """The part of the hub's protocol that an audit needs, for org/pictures."""

    def __init__(self, state: HubState, *rest: object) -> None:
        self.state = state
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length).decode()
        try:
            self.wanted = list(json.loads(body)["paths"])
        except ValueError:
            self.wanted = parse_qs(body).get("paths", [])
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path, state = unquote(url.path), self.state
        state.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        if state.fails:
            return self._answer(state.fails.pop(0), b"")
        if state.is_private and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, b"", {"X-Error-Code": "RepoNotFound"})
        if "/org/gated" in path:
            return self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
        if "/org/pictures" not in path:
            return self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        if found := re.fullmatch(r"/datasets/org/pictures/resolve/([^/]+)/(.*)", path):
            return self._file(found[2])
        if found := re.fullmatch(r"/api/datasets/org/pictures/revision/(.+)", path):
            if found[1] not in ("main", "v1.0", "refs/convert/parquet"):
                return self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return self._json({"id": "org/pictures", "sha": state.commit, "siblings": [], "tags": []})
        if found := re.fullmatch(r"/api/datasets/org/pictures/tree/[^/]+/?(.*)", path):
            return self._tree(found[1], int(parse_qs(url.query).get("cursor", ["0"])[0]))
        if re.fullmatch(r"/api/datasets/org/pictures/paths-info/[^/]+", path):
            return self._json([entry for entry in self._entries("") if entry["path"] in self.wanted])
        return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})

    def _entries(self, folder: str) -> list[dict[str, object]]:
        below = f"{folder}/" if folder else ""
        names = sorted(name for name in self.state.files if name.startswith(below))
        folders = sorted({name.rpartition("/")[0] for name in names if "/" in name})
        return [
            *({"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in folders),
            *(
                {"type": "file", "path": name, "oid": "1" * 40, "size": len(self.state.files[name])}
                for name in names
            ),
        ]

    def _tree(self, folder: str, start: int) -> None:
        entries = self._entries(folder)
        if not entries:
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        more = {}
        if start + PAGE < len(entries):
            host = self.headers["Host"]
            address = f"http://{host}{urlsplit(self.path).path}?recursive=true&cursor={start + PAGE}"
            more["Link"] = f'<{address}>; rel="next"'
        return self._json(entries[start : start + PAGE], more)

    def _file(self, name: str) -> None:
        data = self.state.files.get(name)
        if data is None:
            return self._answer(404, b"Entry not found", {"X-Error-Code": "EntryNotFound"})
        if len(data) >= self.state.large and self.state.elsewhere:
            return self._answer(302, b"", {"Location": f"{self.state.elsewhere}/{quote(name)}"})
        return _send_file(self, data)

    def _json(self, content: object, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json", **headers})

    def _answer(self, code: int, body: bytes, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        send(self, code, body, headers)

    def log_message(self, *_: object) -> None:
        pass


class Elsewhere(BaseHTTPRequestHandler):
    """Where large files are."""

    def __init__(self, state: HubState, *rest: object) -> None:
        self.state = state
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if "Authorization" in self.headers:
            self.state.leaked.append(self.path)
        self.state.requests.append(f"CDN {unquote(self.path)} {self.headers.get('Range', '')}".strip())
        _send_file(self, self.state.files[unquote(self.path)[1:]])

    def log_message(self, *_: object) -> None:
        pass


def _send_file(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    if found := re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", "")):
        start, end = int(found[1]), min(int(found[2]) + 1, len(data))
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}", "ETag": '"x"'}
        return send(handler, 206, data[start:end], headers)
    return send(handler, 200, data, {"ETag": '"x"'})


def send(handler: BaseHTTPRequestHandler, code: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Answer a request."""
    handler.send_response(code)
    for key, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(key, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


@contextmanager
def dataset_hubs() -> Iterator[HubState]:
    """Run the stand-in and its other address."""
    state = HubState()
    with serving(partial(Elsewhere, state)) as other, serving(partial(DatasetHub, state)) as url:
        state.elsewhere, state.url = other, url
        yield state
