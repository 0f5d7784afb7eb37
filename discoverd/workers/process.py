"""A worker: a process that answers from its copy, for as long as the main process lives."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from discoverd import eventloop
from discoverd import log as logs
from discoverd.answering import Answering
from discoverd.dns.cookies import Cookies
from discoverd.dns.server import Counts, Listener
from discoverd.resolver.outcome import Fail
from discoverd.supervise import explain_faults, spawn
from discoverd.workers import replica
from discoverd.workers.messages import (
    READ_AHEAD,
    Begin,
    Configure,
    Flush,
    LookedUp,
    LookUp,
    Stop,
    Tick,
    Tock,
    Update,
    pack,
    receive,
)

if TYPE_CHECKING:
    from discoverd.catalog import Fetched, Lookup
    from discoverd.dns.server import DnsServer

log = logging.getLogger("discoverd.workers")

#: Seconds that questions under way have to be answered once the worker is told to stop.
LAST_ANSWERS_SECONDS: Final = 2.0
#: Seconds that the main process has for a look-up, and look-ups under way; Consul's own limits are below.
LOOK_UP_SECONDS: Final = 5.0
LOOK_UPS_MOST: Final = 1000
PR_SET_PDEATHSIG: Final = 1  # prctl(2)


def main(channel: int, parent: int) -> None:
    """Serve until told to stop, or until the main process is gone, in whatever way that went."""
    _die_with(parent)
    # these are for the main process, which sees to it that the workers end or reload
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        eventloop.run(_run(socket.socket(fileno=channel)))
    except Exception:  # the main process has a better one ready
        log.exception("this worker ends")
        os._exit(1)


def _die_with(parent: int) -> None:
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it was gone before that


async def _run(channel: socket.socket) -> None:
    explain_faults(asyncio.get_running_loop())
    reader, writer = await asyncio.open_unix_connection(sock=channel, limit=READ_AHEAD)
    try:
        worker = Worker(await receive(reader), writer)
    except (EOFError, OSError):
        return
    async with asyncio.TaskGroup() as group:
        listening = spawn(group, "listen to the main process", worker.listen(reader))
        if await worker.over:
            await worker.finish()
        listening.cancel()
    writer.close()


class Worker:
    """The copy, what answers from it, and the sockets."""

    def __init__(self, begin: Begin, writer: asyncio.StreamWriter) -> None:
        handler = logs.set_up(begin.level, begin.style)
        handler.addFilter(_Numbered(begin.number))
        self._writer = writer
        self.answering = Answering(begin.choices, Cookies(begin.secret), self._look_up)
        self._listeners = [_listener(*each) for each in begin.sockets]
        self._server: DnsServer | None = None
        self._asked: dict[int, asyncio.Future[Fetched | Fail]] = {}
        self._questions = 0
        #: Done once it is: True where there is time to answer what has come, False where nobody is left.
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Do what the main process says, until it is gone."""
        while True:
            try:
                message = await receive(reader)
            except (EOFError, OSError):
                self._end(answer=False)
                return
            await self._take(message)
            await asyncio.sleep(0)  # questions have their turn between two messages, however many wait

    def _end(self, *, answer: bool) -> None:
        if not self.over.done():
            self.over.set_result(answer)

    async def _take(self, message: Any) -> None:
        match message:
            case Update():
                replica.apply(message, self.answering.registry, self.answering.catalog)
                if message.current is not None and self._server is None:
                    await self._begin()
            case Tick(number):
                self.answering.keep_house()
                self._send(self._tock(number))
            case LookedUp(number, found):
                asked = self._asked.pop(number, None)
                if asked is not None and not asked.done():
                    asked.set_result(found)
            case Configure(choices, level):
                self.answering.choose(choices)
                logging.getLogger("discoverd").setLevel(level.upper())
            case Flush(name):
                self.answering.forwarding.flush(name)
            case Stop():
                self._end(answer=True)

    async def _begin(self) -> None:
        """Everything is known: answer."""
        gc.collect()
        gc.freeze()  # as the main process does
        self._server = self.answering.server(self._listeners)
        await self._server.start()
        self._send(self._tock(0))

    def _tock(self, number: int) -> Tock:
        server = self._server
        counts = Counts() if server is None else server.counts()
        observed = self.answering.handler.observer.read()
        foreign = self.answering.forwarding.tally()
        counts = replace(counts, observed=observed)
        return Tock(number, counts, answering=server is not None, foreign=foreign)

    async def finish(self) -> None:
        """Answer what has come, and close."""
        if self._server is not None:
            await self._server.stop_accepting()
            async with asyncio.TaskGroup() as group:
                spawn(group, "hear who has come", self._server.hear_who_has_come())
                await self.answering.forwarding.finish(LAST_ANSWERS_SECONDS)
            await self._server.stop()
            await self.answering.close()

    def _send(self, message: object) -> None:
        if not self._writer.is_closing():
            self._writer.write(pack(message))

    async def _look_up(self, lookup: Lookup) -> Fetched | Fail:
        """Ask the main process: it has the one connection to Consul's agent, and what that said lately."""
        if len(self._asked) >= LOOK_UPS_MOST:
            return Fail(f"{LOOK_UPS_MOST} look-ups are under way")
        self._questions = number = self._questions + 1
        asked = self._asked[number] = asyncio.get_running_loop().create_future()
        self._send(LookUp(number, lookup))
        try:
            return await asyncio.wait_for(asked, LOOK_UP_SECONDS)
        except TimeoutError:
            return Fail(f"{lookup.name} was not looked up within {LOOK_UP_SECONDS:g} s")
        finally:
            self._asked.pop(number, None)


class _Numbered(logging.Filter):
    """Says in every line which worker it is of."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def filter(self, record: logging.LogRecord) -> bool:
        record.worker = self._number
        return True


def _listener(host: str, port: int, datagrams: int, stream: int) -> Listener:
    return Listener(host, port, socket.socket(fileno=datagrams), socket.socket(fileno=stream))
