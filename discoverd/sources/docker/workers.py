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
    """A fixed number of threads; they start with the first call and end with :meth:`stop`."""

    def __init__(self, count: int, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._count, self._name = count, name
        self._started = False

    async def run(self, call: Callable[[], T]) -> T:
        """What ``call`` returns or raises. Cancelling stops the waiting, not the call."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if not self._started:
            self._started = True
            for number in range(self._count):
                threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True).start()
        self._jobs.put((loop, future, call))
        return await future

    def stop(self) -> None:
        """Let the threads end after what they are doing."""
        if self._started:
            for _ in range(self._count):
                self._jobs.put(None)
        self._started = False

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, future, call = job
            if future.cancelled():
                continue
            try:
                result, error = call(), None
            except Exception as raised:  # noqa: BLE001 - it is handed to who awaits it
                result, error = None, raised
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:  # the loop is closed
                _discard(result)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.cancelled():
        _discard(result)
    elif error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _discard(result: Any) -> None:
    """Nobody waits any more: connections that were just made are closed."""
    if close := getattr(result, "close", None):
        close()
