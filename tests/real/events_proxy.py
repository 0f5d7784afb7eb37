"""Stands between a server and a real engine, and spoils the stream of events: all else is passed on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    #: What is passed on of some events in a row.
    Spoil = Callable[[list[bytes]], list[bytes]]

#: Seconds for which events are held back, so that there are some to spoil.
HELD = 0.1


class EventsProxy:
    """Listens on ``url``. ``events`` counts what the engine said, ``passed`` what the server got."""

    def __init__(self, folder: Path, engine: str, spoil: Spoil) -> None:
        folder.mkdir()
        self._path = folder / "spoilt.sock"
        self.url = f"unix://{self._path}"
        self._engine, self._spoil = engine.removeprefix("unix://"), spoil
        self.events = self.passed = 0
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="spoilt events")
        self._thread.start()
        until(self._path.exists, message="the proxy listens")

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_unix_server(self._client, self._path)
        await self._over.wait()
        server.close()

    async def _client(self, asking: asyncio.StreamReader, asker: asyncio.StreamWriter) -> None:
        telling, teller = await asyncio.open_unix_connection(self._engine)
        events = asyncio.Event()  # a connection that carries events carries nothing else
        there = self._loop.create_task(self._ask(asking, teller, events), name="there")
        try:
            with contextlib.suppress(OSError):
                await self._tell(telling, asker, events)
        finally:
            there.cancel()
            await asyncio.wait([there])
            for writer in (asker, teller):
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _ask(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, events: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if b"/events?" in data.partition(b"\r\n")[0]:
                    events.set()
                target.write(data)
            target.write_eof()

    async def _tell(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, events: asyncio.Event
    ) -> None:
        while data := await source.read(65536):
            if events.is_set():
                await self._tell_events(data, source, target)
                return
            target.write(data)

    async def _tell_events(
        self, data: bytes, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        """The head as it is, then what is left of the events: an engine writes each as one chunk."""
        if b"\r\n\r\n" not in data:
            data += await source.readuntil(b"\r\n\r\n")
        head, end, rest = data.partition(b"\r\n\r\n")
        target.write(head + end)
        held: list[bytes] = []
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HELD):
                    if not (more := await source.read(65536)):
                        return
                    rest += more
                    lines, rest = _chunks(rest)
                    held += lines
                    self.events += len(lines)
                    continue
            for line in self._spoil(held):
                self.passed += 1
                target.write(b"%x\r\n%s\r\n" % (len(line), line))
            held = []


def _chunks(data: bytes) -> tuple[list[bytes], bytes]:
    """The chunks that are complete, and what is left."""
    found: list[bytes] = []
    while True:
        size, end, rest = data.partition(b"\r\n")
        if not end or len(rest) < int(size, 16) + 2:
            return found, data
        found.append(rest[: int(size, 16)])
        data = rest[int(size, 16) + 2 :]


def shuffled(pick: Random) -> Spoil:
    return lambda lines: pick.sample(lines, len(lines))


def doubled(pick: Random) -> Spoil:
    """Each twice, the second ones in any order behind all the first."""
    return lambda lines: lines + pick.sample(lines, len(lines))


def missing(pick: Random) -> Spoil:
    """Each with even odds."""
    return lambda lines: [line for line in lines if pick.random() < 0.5]


def no_more(_pick: Random) -> Spoil:
    return lambda _lines: []
