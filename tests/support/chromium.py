"""A headless Chromium under remote control, for tests of a page in a real browser.

Uses the DevTools protocol over a plain WebSocket: one page, one connection, no framework.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

from tests.support.waiting import PATIENCE

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)

_REACHES = "(e, t) => [e, ...(e.labels ?? [])].some(part => part.contains(t))"
"""Whether the element under the mouse is a given one or its label."""
_SPOT = f"""e => {{
  const r = e.getBoundingClientRect(), at = [r.x + r.width / 2, r.y + r.height / 2];
  return ({_REACHES})(e, document.elementFromPoint(...at)) ? at : null;
}}"""
"""The centre of an element, or null if a different element covers it."""


def find() -> str | None:
    """Path of the browser, or None if none is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Page:
    """One tab. Requests and complaints are recorded from the start."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=PATIENCE)
        self._last = 0
        self.requests: list[str] = []
        """Every URL that the page requested."""
        self.complaints: list[str] = []
        """Console errors, uncaught exceptions and blocked content."""
        self._loaded = False
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._last:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return dict(message["result"])
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.complaints.append(str(params["args"]))

    def open(self, file: Path, width: int = 1280, scheme: str = "light") -> None:
        """Load a local page and wait until it and all its pictures are loaded."""
        self.visit(file.as_uri(), width, scheme)
        self.run("Promise.all([...document.images].map((image) => image.decode()))")

    def visit(self, url: str, width: int = 1280, scheme: str = "light") -> None:
        """Load a page, without waiting for what its script adds."""
        self.resize(width)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self._go(url)

    def leave(self) -> None:
        """Go to an empty page, after which all requests and complaints of the previous page are recorded."""
        self._go("about:blank")

    def _go(self, url: str) -> None:
        self._loaded = False
        self.call("Page.navigate", url=url)
        until = time.monotonic() + PATIENCE
        while not self._loaded:
            if time.monotonic() > until:
                raise TimeoutError(f"{url} did not load in {PATIENCE:.0f} s")
            self.run("1")

    def resize(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def run(self, script: str) -> Any:
        """Value of an expression; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Click an element with the mouse, once it stands still and nothing covers it.

        If it moves away meanwhile, try again.
        """
        element = f"document.querySelector({json.dumps(selector)})"
        spot = f"({_SPOT})({element})"
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            self.run(f"{element}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
            self.settle()
            seen = self.run(spot)
            self.settle()
            if seen is None or seen != self.run(spot):
                continue
            messages = f"event => {{ window.hit = ({_REACHES})({element}, event.target) }}"
            self.run(
                f"window.hit = false; addEventListener('click', {messages}, {{capture: true, once: true}})"
            )
            for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
                button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
                self.call("Input.dispatchMouseEvent", type=kind, x=seen[0], y=seen[1], **button)
            self.settle()
            if self.run("window.hit"):
                return
        raise TimeoutError(f"{selector} could not be clicked")

    def settle(self) -> None:
        """Wait two frames, until elements that came into view are laid out, which may move others."""
        frames = "requestAnimationFrame(() => requestAnimationFrame(done))"
        self.run(f"new Promise(done => {frames}).then(() => 1)")

    def press(self, key: str, code: int) -> None:
        """Press a key, given by its DevTools name and virtual key code."""
        text = {"Enter": {"text": "\r"}}.get(key, {})
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **(text if kind == "keyDown" else {}),
            )
        self.settle()

    def screenshot(self, file: Path, whole: bool = True) -> None:
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(picture["data"]))

    def printed_pages(self) -> int:
        """Number of A4 pages when printed."""
        inches = {"paperWidth": 8.27, "paperHeight": 11.69}
        pdf = base64.b64decode(self.call("Page.printToPDF", **inches)["data"])
        return len(re.findall(rb"/Type\s*/Page\b", pdf))

    def close(self) -> None:
        self._socket.close()


@contextmanager
def browse(binary: str, profile: Path) -> Iterator[Page]:
    """A browser with one page, terminated at the end of the context."""
    with (profile.parent / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, *FLAGS, f"--user-data-dir={profile}", "about:blank"], stdout=log, stderr=log
        )
        try:
            page = Page(_address(process, profile))
            try:
                yield page
            finally:
                page.close()
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _address(process: subprocess.Popen[bytes], profile: Path) -> str:
    """URL of the tab's WebSocket, as soon as the browser has written its port to a file."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with code {process.returncode}")
        try:
            port = (profile / "DevToolsActivePort").read_text().splitlines()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=PATIENCE) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            if tabs:
                return str(tabs[0]["webSocketDebuggerUrl"])
        except (OSError, IndexError):
            pass
        time.sleep(0.2)
    raise TimeoutError("the browser did not answer")
