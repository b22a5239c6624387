"""Reads which Ray a run uses, and checks that it can be used.

The check comes before Ray's own, which takes minutes, ends in a traceback, or reports an error of sockets.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from originality.contract.redaction import Masked

ANSWER_SECONDS = 10.0
"""Time limit for a connection to the address, and for the first answer of the server there."""
_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""Longest path of a Unix socket, in bytes."""
_SESSION = "/ray/session_2026-01-01_00-00-00_000000_{pid}/sockets/plasma_store"
"""The path of Ray's sockets below its temporary folder, for its length."""
_PROBE_BYTES = 2**20

HERE = "unset RAY_ADDRESS to run on this machine"


def cluster_address() -> str | None:
    """The address of the Ray cluster that the environment names, as ``ray job submit`` does; None where Ray
    is to be started on this machine.

    The only place that reads RAY_ADDRESS; others are handed what it says. ``cluster/__init__.py`` has
    normalised it before.
    """
    return os.environ.get("RAY_ADDRESS") or None


def on_cluster() -> bool:
    """Whether a run uses a cluster's Ray, and not one that is started on this machine for it alone."""
    return cluster_address() is not None


class Unusable(Masked, ValueError):  # noqa: N818
    """Ray cannot be used; the message is one line and says the fix."""


def check(address: str | None) -> None:
    """Check the cluster at an address; with None, that Ray can be started on this machine.

    Raises:
        Unusable: with the fix.
    """
    if address is None:
        _check_temporary_folder()
    elif (address := address.strip()) != "auto":  # Ray's name for the cluster that runs on this machine
        _check_answers(address, *_host_and_port(address))


def _host_and_port(address: str) -> tuple[str, int]:
    scheme, separator, rest = address.partition("://")
    scheme = scheme.lower()
    if separator and scheme in ("http", "https"):
        raise Unusable(
            f"RAY_ADDRESS={address} is the address of Ray's dashboard and jobs; submit the command there "
            f"(ray job submit --address {address} -- originality ...), or give the head's own address, as "
            f"{rest.partition('/')[0].partition(':')[0]}:6379, or {HERE}"
        )
    if separator and scheme == "ray":
        raise Unusable(
            f"RAY_ADDRESS={address} is an address of the Ray client, which cannot carry a run; start the "
            f"command on a machine of the cluster, by ray job submit, or {HERE}"
        )
    host, _, port = address.rpartition(":")
    if (
        separator
        or not host
        or re.search("[/@]", host)
        or not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16)
    ):
        raise Unusable(f"RAY_ADDRESS={address!r} is not an address of a cluster; write host:6379, or {HERE}")
    return host.strip("[]"), int(port)


def _check_answers(address: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), ANSWER_SECONDS).close()
    except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name in IDNA
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Unusable(
            f"cannot reach Ray at RAY_ADDRESS={address} ({reason}); start the cluster, or {HERE}"
        ) from error
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return
    import grpc

    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_SECONDS)
        except grpc.FutureTimeoutError as error:
            raise Unusable(
                f"the server at RAY_ADDRESS={address} is not Ray; give the address of Ray's head, whose port "
                f"is 6379 by default, or {HERE}"
            ) from error


def _check_temporary_folder() -> None:
    names = ("RAY_TMPDIR", "TMPDIR") if sys.platform == "linux" else ("RAY_TMPDIR",)
    name = next((name for name in names if name in os.environ), "")
    folder = os.environ.get(name, "/tmp")
    named = f"{name}={folder}" if name else folder
    if not Path(folder).is_absolute():
        raise Unusable(
            f"{named} must be an absolute path, as Ray keeps its sockets there; change or unset it"
        )
    most = _SOCKET_BYTES - len(_SESSION.format(pid=os.getpid()))
    if len(os.fsencode(folder.rstrip("/"))) > most:
        raise Unusable(
            f"{named} is too long a path for Ray's sockets (at most {most} bytes); set RAY_TMPDIR to a "
            "shorter one, as RAY_TMPDIR=/tmp"
        )
    if not Path(folder).is_dir():
        raise Unusable(f"{named} is not a folder; create it{f', or unset {name}' if name else ''}")
    try:
        Path(folder, "ray").mkdir(exist_ok=True)
        handle, probe = tempfile.mkstemp(prefix="originality-", dir=Path(folder, "ray"))
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(bytes(_PROBE_BYTES))
        finally:
            with suppress(OSError):
                Path(probe).unlink()
    except OSError as error:
        raise Unusable(
            f"Ray cannot keep its files in {named} ({error.strerror}); set RAY_TMPDIR to the short path of a "
            "folder that can be written and has room"
        ) from error
