"""One worker as the main process has it: its process, the channel to it, what it was told and has said."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import discoverd
from discoverd.dns.forwarding import Tally
from discoverd.dns.server import Counts
from discoverd.supervise import spawn
from discoverd.workers.messages import (
    READ_AHEAD,
    Begin,
    LookedUp,
    LookUp,
    Stop,
    Tick,
    Tock,
    pack,
    receive,
)
from discoverd.workers.mirror import Mark, Marks

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable

    from discoverd.answering import LookUp as Ask
    from discoverd.workers.mirror import Mirror

log = logging.getLogger("discoverd.workers")

#: Octets on their way to a worker, beyond which it is told nothing more until they have left.
UNREAD_MOST: Final = 1 << 18
#: Seconds between two signs of life, and how many a worker may leave unanswered before it is killed: one
#: that answers on its sockets, and one that is still starting, for which the main process answers.
#: Counted and not timed: when the machine or the main process stood still, nobody was late.
TICK_SECONDS: Final = 1.0
UNANSWERED_MOST: Final = 20
UNANSWERED_AT_START: Final = 120


class Link:
    """A worker's process, from :meth:`start` until :meth:`run` returns."""

    def __init__(self, mirror: Mirror, ask: Ask, answers: Callable[[], None]) -> None:
        """``ask`` looks up what a worker cannot; ``answers`` is called once the worker does."""
        self._mirror, self._ask, self._answers = mirror, ask, answers
        self._marks = Marks()
        self._marked = asyncio.Event()
        self._said: dict[int, asyncio.Future[None]] = {}
        self._ticks = self._tocks = 0
        self._process: Process
        #: What it has counted, as it last said, and whether it answers on its sockets.
        self.counts, self.answering = Counts(), False
        self.foreign: Tally = Tally()
        #: How it ended, in words, once :attr:`closed` is done.
        self.end, self.closed = "", asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def start(self, begin: Begin) -> None:
        """Start the process and begin to tell it all there is. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await _spawn(theirs.fileno(), begin)
            except OSError:
                ours.close()
                raise
        self._reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=READ_AHEAD)
        self._writer.transport.set_write_buffer_limits(high=UNREAD_MOST)
        self._writer.write(pack(begin))
        self.mark(*self._mirror.everything())

    async def run(self) -> None:
        """Keep it up to date until it closes the channel. In whichever way this ends, so does the process."""
        try:
            async with asyncio.TaskGroup() as group:
                work = [spawn(group, "tell a worker", self._tell()), spawn(group, "tick", self._tick())]
                await self._listen(group)
                for task in work:
                    task.cancel()
        finally:
            self.answering = False
            self._writer.close()
            for waiting in self._said.values():
                waiting.cancel()
            self.kill()
            status = await self._process.wait()
            self.end = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            self.closed.set_result(None)

    def kill(self) -> None:
        # not by Process.kill(): that asks for the exit status itself, which the loop then waits for in vain
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    # -- to the worker ----------------------------------------------------------------------

    def send(self, packed: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(packed)

    def stop(self) -> None:
        """Have it answer what has come, and end."""
        self.send(pack(Stop()))

    @property
    def keeps_up(self) -> bool:
        """Whether it was told everything, and has taken most of it."""
        return not self._marks and self._writer.transport.get_write_buffer_size() < UNREAD_MOST

    def mark(self, *marks: Mark) -> None:
        """Tell it of these when it can take it."""
        self._marks.add(*marks)
        self._marked.set()

    def count(self) -> asyncio.Future[None]:
        """Have it say what it has counted by now: done once it has, or has ended."""
        said = self._said[self._ticks + 1] = asyncio.get_running_loop().create_future()
        self._send_tick()
        return said

    async def _tell(self) -> None:
        while True:
            await self._marked.wait()
            self._marked.clear()
            while self._marks:
                self.send(pack(self._mirror.update(self._marks.take())))
                try:
                    await self._writer.drain()
                except OSError:
                    return  # it has ended, which the listener sees as well
                await asyncio.sleep(0)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self._ticks - self._tocks >= (UNANSWERED_MOST if self.answering else UNANSWERED_AT_START):
                log.warning("process %d gives no sign of life and is killed", self.pid)
                self.kill()
            self._send_tick()

    def _send_tick(self) -> None:
        self._ticks += 1
        self.send(pack(Tick(self._ticks)))

    # -- from the worker --------------------------------------------------------------------

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        while True:
            try:
                message = await receive(self._reader)
            except (EOFError, OSError):
                return
            if isinstance(message, Tock):
                self._take(message)
            elif isinstance(message, LookUp):
                spawn(group, f"look up {message.lookup.name}", self._look_up(message))

    def _take(self, tock: Tock) -> None:
        self.foreign = tock.foreign
        self.counts, self._tocks = tock.counts, max(self._tocks, tock.number)
        for number in [n for n in self._said if n <= tock.number]:
            said = self._said.pop(number)
            if not said.done():
                said.set_result(None)
        if tock.answering and not self.answering:
            self.answering = True
            self._answers()

    async def _look_up(self, asked: LookUp) -> None:
        self.send(pack(LookedUp(asked.number, await self._ask(asked.lookup))))


async def _spawn(channel: int, begin: Begin) -> Process:
    """A fresh interpreter: this process has threads, and a copy by fork would have their locks without them.

    What was given to this process in variables is its own, with the tokens among it.
    """
    path = os.pathsep.join(filter(None, (_home(), os.environ.get("PYTHONPATH"))))
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("DISCOVERD_", "CONSUL_", "DOCKER_"))
    }
    descriptors = [channel, *(fd for _, _, *pair in begin.sockets for fd in pair)]
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "discoverd.workers", str(channel), str(os.getpid())),
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=descriptors,
        env=environment | {"PYTHONPATH": path},
    )


def _home() -> str:
    """Where this package was imported from."""
    return str(Path(discoverd.__file__).resolve().parents[1])
