"""A real headless Chromium, driven over its own debugging protocol (chromedevtools.github.io)."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from tests.real.debian import need
from tests.wait import until_async

if TYPE_CHECKING:
    from pathlib import Path


class Chromium:
    """One browser with one page. Use as an async context manager."""

    def __init__(self, folder: Path) -> None:
        """Raises UnavailableError where there is no Chromium and none can be installed."""
        self._program = need("chromium", "chromium")
        self._folder = folder
        self._numbers = itertools.count(1)
        self.errors: list[str] = []

    def _start(self) -> None:
        flags = (
            "headless=new no-sandbox disable-gpu no-first-run disable-dev-shm-usage no-proxy-server"
            " disable-background-networking disable-component-update remote-debugging-port=0"
        )
        command = [self._program, *(f"--{flag}" for flag in flags.split())]
        with (self._folder / "chromium.log").open("w") as log:
            self._process = subprocess.Popen(
                [*command, f"--user-data-dir={self._folder / 'profile'}", "about:blank"],
                stdout=log,
                stderr=log,
            )

    async def __aenter__(self) -> Self:
        self._start()
        told = self._folder / "profile" / "DevToolsActivePort"
        await until_async(lambda: told.is_file() and len(told.read_text().splitlines()) > 1, timeout=90)
        port = told.read_text().splitlines()[0]
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as reply:
            pages = await reply.json()
        url = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        self._socket = await self._session.ws_connect(url, max_msg_size=0)
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()
        await self._session.close()
        self._process.terminate()
        self._process.wait(30)

    async def send(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive(timeout=60)
            assert message.type is aiohttp.WSMsgType.TEXT, message
            said = json.loads(message.data)
            if said.get("id") == number:
                assert "error" not in said, said
                return said["result"]
            self._note(said)

    def _note(self, said: Any) -> None:
        """Keep what a person would see as red in the console, and what was asked of the network."""
        if said["method"] == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(said["params"]["exceptionDetails"]))
        elif said["method"] == "Log.entryAdded":
            entry = said["params"]["entry"]
            # what a test provokes, such as a 400, is the network's; a violated policy is "security"
            if entry["level"] == "error" and entry["source"] != "network":
                self.errors.append(json.dumps(entry))

    async def evaluate(self, code: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        said = await self.send("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def until(self, code: str, timeout: float = 30) -> Any:  # noqa: ASYNC109 - the deadline of a poll
        """Until an expression in the page is truthy."""
        return await until_async(lambda: self.evaluate(code), timeout=timeout, message=code)

    async def screen(self, width: int, height: int, *, dark: bool = False) -> None:
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.send("Emulation.setEmulatedMedia", features=scheme)

    async def press(self, key: str, **more: Any) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.send("Input.dispatchKeyEvent", type=kind, key=key, **more)

    async def write(self, text: str) -> None:
        await self.send("Input.insertText", text=text)

    async def screenshot(self) -> bytes:
        """What the page looks like, as PNG."""
        said = await self.send("Page.captureScreenshot", format="png")
        return base64.b64decode(said["data"])
