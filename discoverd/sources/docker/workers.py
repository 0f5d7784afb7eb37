"""Blocking calls off the event loop, in daemon threads.

A ThreadPoolExecutor's threads are joined at exit: an engine that hangs in a call would hold up
the whole process for as long as the call may last.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_Job = tuple["asyncio.AbstractEventLoop", "asyncio.Future[Any]", "Callable[[], Any]"]


class Workers:
    """Up to ``count`` threads, each started when all others are busy; they end with :meth:`stop`."""

    def __init__(self, count: int, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._count, self._name = count, name
        self._threads = self._busy = 0

    async def run(self, call: Callable[[], T]) -> T:
        """What ``call`` returns or raises. Cancelling stops the waiting, not the call."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._busy += 1
        if self._threads < min(self._busy, self._count):
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
        self._jobs.put((loop, future, call))
        return await future

    def stop(self) -> None:
        """Let the threads end after what they are doing."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, future, call = job
            if future.cancelled():
                call = _nothing
            try:
                result, error = call(), None
            except Exception as raised:  # noqa: BLE001 - it is handed to who awaits it
                result, error = None, raised
            try:
                loop.call_soon_threadsafe(self._settle, future, result, error)
            except RuntimeError:  # the loop is closed
                _discard(result)

    def _settle(self, future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
        self._busy -= 1
        if future.cancelled():
            _discard(result)
        elif error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _nothing() -> None:
    """In place of a call whose result nobody waits for."""


def _discard(result: Any) -> None:
    """Nobody waits any more: connections that were just made are closed."""
    if close := getattr(result, "close", None):
        close()
