"""A web server that imitates the metadata services of EC2 and GCE."""

from __future__ import annotations

import json
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SILENT = -1
"""Status for which the connection is closed without an answer."""
NOWHERE = "http://127.0.0.1:9"
"""A URL at which nothing listens."""


class Cloud(ThreadingHTTPServer):
    """Both clouds at once, by their documentation; the test sets the answers."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Metadata)
        self.tokens: set[str] = set()
        self.tokens_given = 0
        self.action: str | None = None
        self.rebalance = False
        self.preempted = "FALSE"
        self.flavor = "Google"
        self.ailing = 0
        """Status of the answer to every request, if not 0."""
        self.requested: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def terminates(self) -> None:
        self.action = json.dumps({"action": "terminate", "time": "2026-09-18T08:22:00Z"})


class _Metadata(BaseHTTPRequestHandler):
    server: Cloud

    def do_PUT(self) -> None:
        cloud = self._enter()
        seconds = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if cloud.ailing:
            self._answer(cloud.ailing)
        elif self.path != "/latest/api/token" or "X-Forwarded-For" in self.headers:
            self._answer(403)
        elif not seconds.isdigit() or not 1 <= int(seconds) <= 21600:
            self._answer(400)
        else:
            token = uuid.uuid4().hex
            cloud.tokens.add(token)
            cloud.tokens_given += 1
            self._answer(200, token)

    def do_GET(self) -> None:
        cloud = self._enter()
        if cloud.ailing:
            self._answer(cloud.ailing)
        elif self.path.startswith("/computeMetadata/"):
            self._google()
        elif self.headers.get("X-aws-ec2-metadata-token") not in cloud.tokens:
            self._answer(401)
        elif self.path == "/latest/meta-data/spot/instance-action" and cloud.action is not None:
            self._answer(200, cloud.action)
        elif self.path == "/latest/meta-data/events/recommendations/rebalance" and cloud.rebalance:
            self._answer(200, '{"noticeTime": "2026-09-18T08:20:00Z"}')
        else:
            self._answer(404)

    def _google(self) -> None:
        if self.headers.get("Metadata-Flavor") != "Google" or "X-Forwarded-For" in self.headers:
            self._answer(403)
        elif self.path == "/computeMetadata/v1/instance/preempted":
            self._answer(200, self.server.preempted)
        else:
            self._answer(404)

    def _enter(self) -> Cloud:
        self.server.requested.append(f"{self.command} {self.path}")
        return self.server

    def _answer(self, status: int, body: str = "<html>an error</html>") -> None:
        if status == SILENT:
            return
        self.send_response(status)
        self.send_header("Metadata-Flavor", self.server.flavor)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass
