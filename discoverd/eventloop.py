"""An event loop that reads some sockets as soon as they can be read, without its own steps in between.

For every socket that can be read asyncio makes an entry in a list, puts a handle into a queue, looks at
its timers, and runs the handle in a context. For a datagram that comes alone, as most do, that is a fifth
of all it takes to answer it (0.78 of the CPU at 5,000 questions a second, 0.93 at 20,000).
"""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Seconds until the loop's next timer in which nobody waits for what may come at a socket, and the same since
#: something came elsewhere: that is often the first of several steps.
SOON: Final = 0.025
LATELY: Final = 0.01

if sys.platform == "linux":

    class Selector(selectors.EpollSelector):
        """Calls who reads directly by itself, and returns when the loop has something to do.

        ``failed`` is told of what leaves such a call.
        """

        def __init__(self, failed: Callable[[Exception], None]) -> None:
            super().__init__()
            self._failed = failed
            # the same one, by a descriptor of our own: the class keeps its object to itself
            self._epoll = select.epoll.fromfd(os.dup(self.fileno()))
            #: By descriptor: what reads it, and what does where nothing else is due soon.
            self.direct: dict[int, tuple[Callable[[], object], Callable[[], object]]] = {}
            #: The last one that was read directly, and when something came at another, by ``monotonic``.
            self._last, self._elsewhere = -1, 0.0
            #: Whether the loop was given something to do since it began to wait.
            self.due = False

        def close(self) -> None:
            self._epoll.close()
            super().close()

        def unregister(self, fileobj: Any) -> selectors.SelectorKey:
            key = super().unregister(fileobj)
            self.direct.pop(key.fd, None)
            return key

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            """What can be read or written that is not read directly, at the latest after so many seconds."""
            end = None if timeout is None else monotonic() + timeout
            left = -1 if timeout is None else max(timeout, 0)
            self.due = False
            while True:
                try:
                    events = self._epoll.poll(left)
                except InterruptedError:
                    return []
                if len(events) != 1 or (found := self.direct.get(events[0][0])) is None:
                    return self._ready(events)
                read, alone = found
                now = monotonic()
                if events[0][0] != self._last:
                    self._last, self._elsewhere = events[0][0], now
                try:
                    if SOON > left >= 0 or now - self._elsewhere < LATELY:
                        read()
                    else:
                        alone()
                except Exception as error:  # noqa: BLE001  # as for any callback: the loop goes on
                    self._failed(error)
                if self.due:
                    return []
                if end is not None:
                    left = end - monotonic()
                    if left <= 0:
                        return []

        def _ready(self, events: list[tuple[int, int]]) -> list[tuple[selectors.SelectorKey, int]]:
            found, keys = [], self.get_map()
            if events:
                self._elsewhere = monotonic()
            for fd, event in events:
                key = keys.get(fd)
                if key is None:  # closed before it was taken out, while a copy of it is open elsewhere
                    continue
                write = selectors.EVENT_WRITE if event & ~select.EPOLLIN else 0
                read = selectors.EVENT_READ if event & ~select.EPOLLOUT else 0
                found.append((key, (write | read) & key.events))
            return found

    class Loop(asyncio.SelectorEventLoop):
        """asyncio's own, with that selector."""

        def __init__(self) -> None:
            self._direct = Selector(self._read_failed)
            super().__init__(self._direct)

        def read_directly(
            self, fd: int, read: Callable[[], object], alone: Callable[[], object] | None = None
        ) -> None:
            """Like ``add_reader``; ``remove_reader`` ends it."""
            self.add_reader(fd, read)
            self._direct.direct[fd] = read, alone or read

        def stop(self) -> None:
            self._direct.due = True
            super().stop()

        def _read_failed(self, error: Exception) -> None:
            self.call_exception_handler({"message": "a socket could not be read", "exception": error})

        def call_soon(
            self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
        ) -> asyncio.Handle:
            self._direct.due = True
            return super().call_soon(callback, *args, context=context)

        def call_at(
            self,
            when: float,
            callback: Callable[[Unpack[Ts]], object],
            *args: *Ts,
            context: Context | None = None,
        ) -> asyncio.TimerHandle:
            self._direct.due = True
            return super().call_at(when, callback, *args, context=context)


def read_directly(
    loop: asyncio.AbstractEventLoop,
    fd: int,
    read: Callable[[], object],
    alone: Callable[[], object] | None = None,
) -> None:
    """Call ``read`` whenever a descriptor can be read, as soon as a loop can; ``remove_reader`` ends it.

    ``alone`` is called instead where the loop has nothing else to do, and had not lately: it may wait for
    more, less than SOON.
    """
    if sys.platform == "linux" and isinstance(loop, Loop):
        loop.read_directly(fd, read, alone)
    else:
        loop.add_reader(fd, read)


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` with a loop that reads directly, where there is one."""
    with asyncio.Runner(loop_factory=Loop if sys.platform == "linux" else None) as runner:
        return runner.run(main)
