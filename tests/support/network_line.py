"""The network between this machine and the gateway, controlled by a test."""

from __future__ import annotations

import re
import select
import socket
from collections import Counter
from threading import Event, Thread

from tests.support.waiting import PATIENCE


class Line:
    """The network in front of the gateway: counts requests, and can stall in the middle of an answer."""

    def __init__(self, port: int) -> None:
        self._gateway = port
        self._asked: list[bytearray] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.quiet, self.through = Event(), Event()
        self.most: float = float("inf")
        """Bytes of answers after which it stalls, until it is released."""
        self._told = 0
        Thread(target=self._accept, daemon=True).start()

    def gets(self) -> Counter[str]:
        """How often each object was requested."""
        paths = re.findall(r"GET /test/(\S+) HTTP", "\n".join(b.decode("latin-1") for b in self._asked))
        return Counter(path.split("/", 1)[1] for path in paths if "list-type" not in path)

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            gateway = socket.create_connection(("127.0.0.1", self._gateway))
            Thread(target=self._carry, args=(client, gateway), daemon=True).start()

    def _carry(self, client: socket.socket, gateway: socket.socket) -> None:
        requested = bytearray()
        self._asked.append(requested)
        with client, gateway:
            while True:
                for end in select.select([client, gateway], [], [])[0]:
                    try:
                        data = end.recv(65536)
                        if not data:
                            return
                        if end is client:
                            requested.extend(data)
                            gateway.sendall(data)
                        else:
                            self._wait(len(data))
                            client.sendall(data)
                    except OSError:
                        return

    def _wait(self, size: int) -> None:
        self._told += size
        if self._told > self.most:
            self.quiet.set()
            self.through.wait(PATIENCE)
