"""Which requests are answered: those of this machine's own browser that know the address."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_SAME = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site of the page itself and of an address that a person typed or opened."""

HEADERS = {
    # Nothing but what this server sends: no script in the page's text, no request to another machine.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address is the key
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every answer."""


class RequestGuard:
    """Passes on requests below ``/TOKEN/`` that read, and answers all others with 403 or 405."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        """``app``: sees paths without the token."""
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if scope["type"] != "http":
            return
        token, _, path = scope["path"].removeprefix("/").partition("/")
        known = secrets.compare_digest(token.encode("utf-8", "surrogateescape"), self._token)
        if not known or not _is_local(Headers(scope=scope)):
            answer = PlainTextResponse("403: open the address that `originality explore` printed\n", 403)
            await answer(scope, receive, with_headers)
        elif scope["method"] not in ("GET", "HEAD"):
            await PlainTextResponse("405: this page only reads\n", 405)(scope, receive, with_headers)
        else:
            inner = {**scope, "path": f"/{path}", "raw_path": f"/{path}".encode(), "root_path": ""}
            await self._app(inner, receive, with_headers)


def _is_local(headers: Headers) -> bool:
    """Whether a request names this machine as its host, and comes from a page of that host or from none.

    A name that only leads to this machine is refused: a page of that name could read the answers
    (DNS rebinding).
    """
    hosts = headers.getlist("host")
    if len(hosts) != 1 or _hostname(f"//{hosts[0]}") not in _LOOPBACK:
        return False
    origins = headers.getlist("origin")
    if any(origin != f"http://{hosts[0]}" for origin in origins):
        return False
    return all(site in _SAME for site in headers.getlist("sec-fetch-site"))


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
