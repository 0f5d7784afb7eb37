"""One job a key at a time, at once when first asked for, then at most once per gap."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

GAP = 0.05  # seconds; a burst of events of one container ends in two looks at it
FIRST_RETRY = 0.2  # seconds
LAST_RETRY = 5.0  # seconds


class Pace:
    """Runs ``job(key)`` for each key marked. A mark during a run means another run after it.

    ``job`` returns whether it succeeded; where it did not, it is tried again with growing
    pauses, or at the next mark. Tasks live in ``group`` and end with :meth:`close`.
    """

    def __init__(self, group: asyncio.TaskGroup, job: Callable[[str], Awaitable[bool]]) -> None:
        self._group, self._job = group, job
        self._marks: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def mark(self, key: str) -> None:
        if key in self._marks:
            self._marks[key].set()
        elif not self._closed:
            self._marks[key] = asyncio.Event()
            task = self._group.create_task(self._serve(key), name=f"docker look {key[:12]}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """End all runs; what they were waiting for is left to its thread."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def _serve(self, key: str) -> None:
        marked = self._marks[key]
        retry = FIRST_RETRY
        try:
            while True:
                marked.clear()
                if await self._job(key):
                    retry = FIRST_RETRY
                    await asyncio.sleep(GAP)
                    if not marked.is_set():
                        return
                else:
                    await asyncio.sleep(GAP)
                    await _wait(marked, retry)
                    retry = min(retry * 2, LAST_RETRY)
        finally:
            del self._marks[key]


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
