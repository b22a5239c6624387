"""Notices that this machine is about to be taken away, by the cloud's metadata service or by a file.

EC2 gives two minutes' notice, GCE half a minute. The metadata service is a plain web server at an address
that only the machine itself can reach. A recommendation to rebalance, and maintenance that the machine
survives, do not count as notice.

A pod can mostly not reach the service, and may be evicted for other reasons too. Kubernetes gives notice by a
preStop hook, which creates the file that ORIGINALITY_LEAVE_FILE names.
"""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Protocol
from urllib.error import HTTPError

_TIMEOUT_SECONDS = 1.0
"""Timeout of a request to the service, which is on the machine's own network."""
_TRIES = 3
"""Requests without an answer after which there is no such service."""
_PAUSE_SECONDS = 1.0
"""Between these requests."""
_TOKEN_SECONDS = 21_600
"""Lifetime that is requested for EC2's token: the longest that it grants."""
_ERRORS = (OSError, HTTPException)
"""No connection, no answer, an incomplete answer, or an error code."""


class _Service(Protocol):
    def notice(self) -> str | None:
        """Return the notice as one line; None while there is none.

        Raises:
            OSError, HTTPException: the service is not there, or its answer is not valid.
        """


class _Ec2:
    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        self._token = ""

    def notice(self) -> str | None:
        self._token = self._token or self._new_token()
        try:
            answer = self._action()
        except HTTPError as error:
            if error.code == 404:
                return None
            if error.code == 401:  # the token has expired; the next request gets a new one
                self._token = ""
            raise
        with suppress(ValueError, LookupError, TypeError):
            action = json.loads(answer)
            return f"EC2 takes this machine away at {action['time']} ({action['action']})"
        return "EC2 takes this machine away"

    def _action(self) -> str:
        headers = {"X-aws-ec2-metadata-token": self._token}
        return _request(f"{self._address}/latest/meta-data/spot/instance-action", headers)[0]

    def _new_token(self) -> str:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
        return _request(f"{self._address}/latest/api/token", headers, "PUT")[0]


class _Gce:
    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")

    def notice(self) -> str | None:
        flavor = {"Metadata-Flavor": "Google"}
        answer, headers = _request(f"{self._address}/computeMetadata/v1/instance/preempted", flavor)
        if headers.get("Metadata-Flavor") != "Google":
            raise OSError("not Google's metadata service, but a different server under its name")
        return "GCE takes this machine away within 30 seconds" if answer.strip() == "TRUE" else None


class PreemptionWatch:
    """Watches whether this machine is about to be taken away: requests the cloud's metadata service every few
    seconds in a thread, and checks for the file whenever :attr:`notice` is read."""

    def __init__(
        self,
        ec2: str = "http://169.254.169.254",
        gce: str = "http://metadata.google.internal",
        every: float = 5.0,
    ) -> None:
        """
        The variables that AWS's and Google's own tools read (AWS_EC2_METADATA_SERVICE_ENDPOINT,
        AWS_EC2_METADATA_DISABLED, GCE_METADATA_HOST) take precedence over the addresses.

        Args:
            ec2: address of EC2's service.
            gce: address of GCE's service.
            every: seconds between two requests.
        """
        self._notice: str | None = None
        file = os.environ.get("ORIGINALITY_LEAVE_FILE")
        self._leave_file = Path(file) if file else None
        self._every = every
        self._services: list[_Service] = []
        if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true":
            self._services.append(_Ec2(os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or ec2))
        host = os.environ.get("GCE_METADATA_HOST")
        self._services.append(_Gce(f"http://{host}" if host else gce))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="spot watch", daemon=True)

    def start(self) -> None:
        """Start the thread. It ends by itself within seconds on a machine that has neither service, and when
        there is a notice."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread after the request under way; does not wait for it."""
        self._stopping.set()

    @property
    def notice(self) -> str | None:
        """The notice as one line; None while there is none. One of the file lasts as long as the file
        does."""
        if self._leave_file and self._leave_file.exists():
            return f"the file {self._leave_file} says that this machine is taken away"
        return self._notice

    @property
    def alive(self) -> bool:
        """Whether the thread still requests the metadata service."""
        return self._thread.is_alive()

    def _watch(self) -> None:
        service = self._find()
        while service and not self.notice and not self._stopping.wait(self._every):
            with suppress(*_ERRORS):  # it has answered before, so it will again
                self._notice = service.notice()

    def _find(self) -> _Service | None:
        """Find the service that this machine has, and keep its first answer; None if none answered in
        several tries. A service that answers with a server error exists, so it is tried again."""
        unanswered = 0
        while unanswered < _TRIES and not self._stopping.is_set():
            unanswered += 1
            for service in self._services:
                try:
                    self._notice = service.notice()
                    return service
                except HTTPError as error:
                    if error.code >= 500:
                        unanswered = 0
                except _ERRORS:
                    continue
            if unanswered < _TRIES:
                self._stopping.wait(_PAUSE_SECONDS)
        return None


def _request(url: str, headers: Mapping[str, str], method: str = "GET") -> tuple[str, Mapping[str, str]]:
    """Return body and headers of an answer. Never through a proxy, which would answer for its own
    machine."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    with direct.open(request, timeout=_TIMEOUT_SECONDS) as answer:
        return answer.read().decode("utf-8", "replace"), answer.headers
