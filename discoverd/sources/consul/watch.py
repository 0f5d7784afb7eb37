"""One blocking query, asked again and again: the rules of the index, and what to do when it fails.

https://developer.hashicorp.com/consul/api-docs/features/blocking
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Generic, TypeVar

from discoverd.sources.consul.errors import ConsulError, RequestError
from discoverd.sources.consul.pace import Bucket, Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from discoverd.sources.consul.adapter import Client, Index
    from discoverd.sources.consul.link import Link
    from discoverd.sources.consul.pulse import Pulse

T = TypeVar("T")

log = logging.getLogger("discoverd.consul")

#: Seconds between two tries of a question that the agent does not understand: a matter for people.
SENSELESS = 60.0
#: Seconds after which a query that brings nothing new has waited for as long as it was to.
EARLY = 50.0


class Watch(Generic[T]):
    """Follows what one query answers.

    ``ask(client, index)`` asks, an index of 0 without waiting. ``apply`` gets each new answer and
    says whether that was the last. ``told`` is called when ``behind`` changes: True from the
    beginning or a failure until the next answer is applied.
    """

    def __init__(
        self,
        link: Link,
        pulse: Pulse,
        ask: Callable[[Client, int], Awaitable[tuple[Index, T]]],
        apply: Callable[[T], Awaitable[bool]],
        told: Callable[[Watch[T]], None] = lambda _watch: None,
    ) -> None:
        self._link, self._pulse, self._ask, self._apply, self._told = link, pulse, ask, apply, told
        self.behind = True
        self.resets = 0

    async def run(self) -> None:
        """Until ``apply`` says so, or cancelled. No ConsulError comes out."""
        loop = asyncio.get_running_loop()
        bucket, retry = Bucket(), Retry()
        index = 0
        while True:
            if pause := bucket.take(loop.time()):
                await asyncio.sleep(pause)
            await self._pulse.ready()
            asked = loop.time()
            try:
                new, value = await self._read(index)
                if self.behind or new != index:
                    if await self._apply(value):
                        return
                    self._set_behind(behind=False)
                # Woken without news: a server that stops, or that was given another state (a snapshot),
                # whose index may be lower. That is only seen without an index.
                woken = new == index and loop.time() - asked < EARLY
                index = 0 if woken else new
                retry.reset()
            except ConsulError as error:
                log.debug("%s", error)
                index = 0  # the agent may have begun anew, and count from less
                self._set_behind(behind=True)
                self._pulse.hurry()
                await asyncio.sleep(SENSELESS if isinstance(error, RequestError) else retry.failed())

    async def _read(self, index: int) -> tuple[int, T]:
        if not index:
            async with self._link.readers:
                fresh, value = await self._ask(self._link.control, 0)
            return fresh.number, value
        new, value = await self._ask(self._link.watching, index)
        if new.number < index:
            # it went backwards: this body may be older than what is known
            self.resets += 1
            async with self._link.readers:
                new, value = await self._ask(self._link.exact, 0)
        return new.number, value

    def _set_behind(self, *, behind: bool) -> None:
        if behind != self.behind:
            self.behind = behind
            self._told(self)
