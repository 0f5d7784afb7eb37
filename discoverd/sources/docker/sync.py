"""Many inspects, a few at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from discoverd.sources.docker.fault import EngineAwayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

#: At once; more gain nothing against one engine.
LANES = 8
#: Seconds. One container whose inspect hangs (it is being started on a slow disk) holds up no others.
PATIENCE = 2.0


class Sweep:
    """One pass over many containers. Its tasks live in ``group`` and end with :meth:`close`."""

    def __init__(self, group: asyncio.TaskGroup, inspect: Callable[[str], Awaitable[Iterable[str]]]) -> None:
        self._group, self._inspect = group, inspect
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, None] = {}
        self._error: EngineAwayError | None = None

    async def run(self, ids: Iterable[str]) -> None:
        """Inspect all of ``ids``, and what their inspects ask for, be it for a second time.

        Returns when all is done, or when only such are left that took longer than PATIENCE: these
        go on by themselves. Raises EngineAwayError as soon as an inspect does.
        """
        self._waiting.update(dict.fromkeys(ids))
        self._tasks = {task for task in self._tasks if not task.done()}
        for number in range(min(LANES, len(self._waiting))):
            self._tasks.add(self._group.create_task(self._lane(), name=f"docker sync {number}"))
        pending = set(self._tasks)
        while pending:
            done, pending = await asyncio.wait(pending, timeout=PATIENCE)
            if self._error is not None:
                raise self._error
            if not done and not self._waiting:
                return

    def close(self) -> None:
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()

    async def _lane(self) -> None:
        while self._waiting:
            key = next(iter(self._waiting))
            del self._waiting[key]
            try:
                self._waiting.update(dict.fromkeys(await self._inspect(key)))
            except EngineAwayError as error:
                self._error = error
                self._waiting.clear()
