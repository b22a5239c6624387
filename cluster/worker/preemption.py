"""Notice that this machine is about to be taken away, from the cloud's metadata service or from a file.

EC2 tells two minutes before, GCE half a minute. The service is a plain web server on an address that
only the machine itself can reach. A recommendation to rebalance, and maintenance that the machine
survives, are no notice.

A pod mostly cannot reach it, and is taken away for other reasons, too. Kubernetes tells by a hook, which
creates the file that ORIGINALITY_LEAVE_FILE names.
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
"""Of a service that is on the machine's own network."""
_TRIES = 3
"""Silences after which a service is taken not to be there."""
_PAUSE_SECONDS = 1.0
"""Between these tries."""
_TOKEN_SECONDS = 21_600
"""For how long EC2 is asked to honour a token: its longest."""
_TROUBLE = (OSError, HTTPException)
"""No connection, no answer, half an answer, or an answer that is an error."""


class _Service(Protocol):
    def notice(self) -> str | None:
        """One line, or None while the machine may stay.

        Raises:
            OSError, HTTPException: the service is not there, or does not answer as it should.
        """


class _Ec2:
    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        self._token = ""

    def notice(self) -> str | None:
        self._token = self._token or self._new_token()
        try:
            said = self._action()
        except HTTPError as error:
            if error.code == 404:
                return None
            if error.code == 401:  # the token has expired; the next asking gets another
                self._token = ""
            raise
        with suppress(ValueError, LookupError, TypeError):
            action = json.loads(said)
            return f"EC2 takes this machine away at {action['time']} ({action['action']})"
        return "EC2 takes this machine away"

    def _action(self) -> str:
        headers = {"X-aws-ec2-metadata-token": self._token}
        return _ask(f"{self._address}/latest/meta-data/spot/instance-action", headers)[0]

    def _new_token(self) -> str:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
        return _ask(f"{self._address}/latest/api/token", headers, "PUT")[0]


class _Gce:
    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")

    def notice(self) -> str | None:
        flavor = {"Metadata-Flavor": "Google"}
        said, headers = _ask(f"{self._address}/computeMetadata/v1/instance/preempted", flavor)
        if headers.get("Metadata-Flavor") != "Google":
            raise OSError("not Google's metadata service, but another under its name")
        return "GCE takes this machine away within 30 seconds" if said.strip() == "TRUE" else None


class PreemptionWatch:
    """Knows whether this machine is about to be taken away: asks the cloud's metadata service every few
    seconds, and looks for the file whenever it is asked itself."""

    def __init__(
        self,
        ec2: str = "http://169.254.169.254",
        gce: str = "http://metadata.google.internal",
        every: float = 5.0,
    ) -> None:
        """Addresses of the services, and seconds between two askings. The variables that AWS's and
        Google's own tools read (AWS_EC2_METADATA_SERVICE_ENDPOINT, AWS_EC2_METADATA_DISABLED,
        GCE_METADATA_HOST) go before the addresses."""
        self._said: str | None = None
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
        """Returns at once. On a machine that has neither service the watch ends by itself, quietly and
        within seconds; it ends with a notice, too."""
        self._thread.start()

    def stop(self) -> None:
        """Returns at once; the watch ends with the asking that is under way."""
        self._stopping.set()

    @property
    def notice(self) -> str | None:
        """One line, once there is a notice; it stays, as long as the file does."""
        if self._leave_file and self._leave_file.exists():
            return f"the file {self._leave_file} says that this machine is taken away"
        return self._said

    @property
    def alive(self) -> bool:
        """Whether the metadata service may still give notice."""
        return self._thread.is_alive()

    def _watch(self) -> None:
        service = self._find()
        while service and not self.notice and not self._stopping.wait(self._every):
            with suppress(*_TROUBLE):  # it was there, so it will answer again
                self._said = service.notice()

    def _find(self) -> _Service | None:
        """The service that this machine has, and what it says; None when all were silent too often. One
        that answers with an error of its own is there, but not well, and does not count as silent."""
        silences = 0
        while silences < _TRIES and not self._stopping.is_set():
            silences += 1
            for service in self._services:
                try:
                    self._said = service.notice()
                    return service
                except HTTPError as error:
                    if error.code >= 500:
                        silences = 0
                except _TROUBLE:
                    continue
            if silences < _TRIES:
                self._stopping.wait(_PAUSE_SECONDS)
        return None


def _ask(url: str, headers: Mapping[str, str], method: str = "GET") -> tuple[str, Mapping[str, str]]:
    """Body and headers of an answer. Never through a proxy: that would tell of its own machine."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    with direct.open(request, timeout=_TIMEOUT_SECONDS) as answer:
        return answer.read().decode("utf-8", "replace"), answer.headers
