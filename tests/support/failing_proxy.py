"""A proxy in front of an HTTP server that fails on request, as an unreliable store does."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

Mode = Literal["pass", "error", "refuse", "cut", "truncate", "lose_answer", "slow", "drip", "hold"]
_CODES = {404: "NoSuchBucket", 409: "ConditionalRequestConflict", 500: "InternalError", 503: "SlowDown"}
_LOOK_SECONDS = 0.02


@dataclass
class _Fault:
    """A fault, and the requests that it affects."""

    mode: Mode = "pass"
    status: int = 503
    seconds: float = 1.0
    share: float = 1.0
    method: str | None = None
    name: str = ""
    header: str = ""
    times: int | None = None
    dice: random.Random = field(default_factory=random.Random)
    struck: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def strikes(self, head: bytes | None) -> bool:
        """Whether the fault affects the request with this head; None for a connection without a request
        yet."""
        if self.mode == "pass" or (head is None) != (self.mode == "refuse"):
            return False
        if head is not None and not self._is_meant(head):
            return False
        if self.struck == self.times or self.dice.random() >= self.share:
            return False
        self.struck += 1
        return True

    def _is_meant(self, head: bytes) -> bool:
        first, *headers = head.decode("latin-1").lower().split("\r\n")
        return (
            self.method in (None, _method(head))
            and self.name.lower() in first
            and any(line.startswith(self.header) for line in ("", *headers))
        )

    async def held(self) -> None:
        """Wait until the fault is replaced or removed."""
        while not self.over.is_set():
            await asyncio.sleep(_LOOK_SECONDS)


class FaultyProxy:
    """Forwards every byte unchanged, so that signatures stay valid, from a free loopback port to a server's.
    Runs in a separate thread; ``fault`` and ``heal`` may be called from any other, at any time, and
    hold from the next request on. Messages are forwarded whole: what is sent must fit in memory.

    A server that is not there is, to the client, a connection that closes without an answer.
    """

    def __init__(self, server: int) -> None:
        """``server`` is the server's port, on loopback."""
        self._server = server
        self._fault = _Fault()
        self._open: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty proxy", daemon=True)
        self.port = 0
        """Port of the proxy, once it is entered."""
        self.dripped = 0
        """Bytes of answers that were sent one by one."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._listener = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._listener.close)
        self._run(self._hang_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def struck(self) -> int:
        """How many requests (for ``refuse``, connections) the present fault has affected."""
        return self._fault.struck

    def fault(
        self,
        mode: Mode,
        *,
        share: float = 1.0,
        seed: int = 0,
        status: int = 503,
        seconds: float = 1.0,
        method: str | None = None,
        name: str = "",
        header: str = "",
        times: int | None = None,
    ) -> None:
        """Set the fault from now on, in place of the present one.

        - ``error``: answered with ``status`` and an XML body as S3 writes it; not forwarded.
        - ``refuse``: connections are closed at once, and those that were open with them.
        - ``cut``: carried out; half of the answer is sent, and the connection closed.
        - ``truncate``: the same with half of its body, so that the answer begins as a good one.
        - ``lose_answer``: carried out; the connection is closed in place of an answer.
        - ``slow``: forwarded after ``seconds``.
        - ``drip``: carried out; the answer's body is sent byte by byte, with ``seconds`` between two, for
          as long as the fault lasts, and then the rest.
        - ``hold``: forwarded when the fault is over, whether or not somebody waits for the answer.

        ``share`` of the requests are hit, by dice with ``seed``; with a ``method``, of those that have
        it; with a ``name``, of those with it in their path or query; with a ``header``, in small letters, of
        those that bring it; with ``times``, no more than so many. ``refuse`` cannot know any of these.
        """
        before = self._fault
        self._fault = _Fault(mode, status, seconds, share, method, name, header, times, random.Random(seed))
        before.over.set()
        if mode == "refuse":
            self._run(self._hang_up())

    def heal(self) -> None:
        """Remove the fault: everything is forwarded again."""
        self.fault("pass")

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _hang_up(self) -> None:
        connections = list(self._open)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        connection = asyncio.current_task()
        assert connection
        self._open.add(connection)
        if not self._fault.strikes(None):
            with suppress(
                OSError, EOFError, asyncio.CancelledError
            ):  # either side closed, or the proxy is being stopped
                await self._forward(reader, writer)
        self._open.discard(connection)
        writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward request after request, until a fault ends the connection. While connections are refused,
        each carries only one request, so that the next request must connect again."""
        behind: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while True:
                request = await _request(reader)
                method = _method(request)
                fault = self._fault
                struck = fault.mode if fault.strikes(request.partition(b"\r\n\r\n")[0]) else "pass"
                if struck == "error":
                    writer.write(_error(fault.status, method))
                    continue
                if struck == "slow":
                    await asyncio.sleep(fault.seconds)
                if struck == "hold":
                    await fault.held()
                behind = behind or await asyncio.open_connection("127.0.0.1", self._server)
                behind[1].write(request)
                answer = await _answer(behind[0], method)
                if struck == "drip":
                    await self._drip(writer, answer, fault)
                else:
                    writer.write(_left_of(answer, struck))
                await writer.drain()
                if struck in ("cut", "truncate", "lose_answer") or fault.mode == "refuse":
                    return
        finally:
            if behind:
                behind[1].close()

    async def _drip(self, writer: asyncio.StreamWriter, answer: bytes, fault: _Fault) -> None:
        at = _body_at(answer)
        writer.write(answer[:at])
        while at < len(answer) and not fault.over.is_set():
            writer.write(answer[at : at + 1])
            await writer.drain()
            self.dripped += 1
            await asyncio.sleep(fault.seconds)
            at += 1
        writer.write(answer[at:])


def _method(request: bytes) -> str:
    return request.partition(b" ")[0].decode()


def _left_of(answer: bytes, mode: Mode) -> bytes:
    """The part of an answer that is sent."""
    if mode == "lose_answer":
        return b""
    if mode == "cut":
        return answer[: len(answer) // 2]
    if mode == "truncate":
        body = _body_at(answer)
        return answer[: body + (len(answer) - body) // 2]
    return answer


def _body_at(answer: bytes) -> int:
    return answer.index(b"\r\n\r\n") + 4


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await _body(reader, head)


async def _answer(reader: asyncio.StreamReader, method: str) -> bytes:
    """An answer's head, with the interim answers before it, if any."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if status < 200:
        return head + await _answer(reader, method)
    if method == "HEAD" or status in (204, 304):
        return head
    return head + await _body(reader, head)


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """A body as sent: by its length, in chunks, or empty."""
    fields = dict(line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:] if b":" in line)
    if fields.get(b"transfer-encoding", b"").strip() != b"chunked":
        return await reader.readexactly(int(fields.get(b"content-length", b"0")))
    body = b""
    while True:
        size = await reader.readuntil(b"\r\n")
        body += size
        if int(size.partition(b";")[0], 16) == 0:
            break
        body += await reader.readexactly(int(size.partition(b";")[0], 16) + 2)
    while not body.endswith(b"\r\n\r\n"):  # the trailer's lines, up to an empty one
        body += await reader.readuntil(b"\r\n")
    return body


def _error(status: int, method: str) -> bytes:
    code = _CODES.get(status, "Error")
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>The proxy was told to.</Message></Error>'
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + ("" if method == "HEAD" else body)).encode()
