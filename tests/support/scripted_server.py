"""A loopback HTTP server with scripted answers, for answers of real services that no gateway here gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple
from urllib.parse import unquote

XML = "application/xml"


class Answer(NamedTuple):
    status: int
    body: str = ""
    kind: str = XML
    headers: dict[str, str] = {}  # noqa: RUF012 - a default that is never modified


class Request(NamedTuple):
    method: str
    path: str
    """Unquoted path, followed by the query."""
    headers: dict[str, str]
    """Headers by name, in lower case."""
    body: bytes


def refusal(status: int, code: str, message: str = "As the service says.", extra: str = "") -> Answer:
    """A refusal in S3's format."""
    return Answer(
        status,
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
        f"{extra}<RequestId>4442587FB7D0A2F9</RequestId></Error>",
    )


NO_SUCH_KEY = refusal(404, "NoSuchKey", "The specified key does not exist.")
LOGIN = Answer(200, "<!DOCTYPE html><html><head><title>Hotel Wi-Fi</title></head></html>", "text/html")


def listing(*keys: str) -> Answer:
    contents = "".join(
        f"<Contents><Key>{key}</Key><Size>1</Size><ETag>&quot;1&quot;</ETag>"
        "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
        for key in keys
    )
    return Answer(
        200,
        f"<ListBucketResult><Name>b</Name><KeyCount>{len(keys)}</KeyCount><IsTruncated>false</IsTruncated>"
        f"{contents}</ListBucketResult>",
    )


def found(body: str = "x") -> Answer:
    return Answer(
        200,
        body,
        "application/octet-stream",
        {"ETag": '"1"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
    )


class Server:
    """The state of the server. ``answer`` may be replaced at any time; ``requests`` holds all since it was
    last cleared."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.answer: Callable[[Request], Answer] = lambda request: NO_SUCH_KEY
        self.requests: list[Request] = []


@contextmanager
def answering() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            path, _, query = self.path.partition("?")
            request = Request(self.command, "?".join(filter(None, (unquote(path), query))), headers, body)
            server.requests.append(request)
            answer = server.answer(request)
            data = answer.body.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def __getattr__(self, name: str) -> Callable[[], None]:
            if not name.startswith("do_"):
                raise AttributeError(name)
            return self._answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = Server(http.server_port)
        Thread(target=http.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            http.shutdown()
