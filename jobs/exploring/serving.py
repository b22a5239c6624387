"""Serve an application to this machine's browser until it is interrupted."""

from __future__ import annotations

import os
import socket
import sys
import webbrowser

import uvicorn
from starlette.types import ASGIApp

from originality.contract.config import SettingsError

HOST = "127.0.0.1"


def listening(port: int) -> socket.socket:
    """A socket of this machine alone.

    Args:
        port: 0: any that is free.

    Raises:
        SettingsError: the port is taken, or not allowed.
    """
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"--port {port}: {error}; choose another one, or leave it out for any that is free"
        ) from error


def server(app: ASGIApp) -> uvicorn.Server:
    """A server of an application. It logs no address: that would log the token."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def open_browser(url: str) -> bool:
    """Open an address in a browser with windows, if this machine has one; whether it did.

    A browser on the terminal would take it over.
    """
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return False
    return webbrowser.open(url)
