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

    from discoverd.sources.consul.link import Ask, Link
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
    says whether that was the last; where it could not know yet, ``over`` says so, asked whenever a
    query has waited in vain. ``told`` is called when ``behind`` changes: True from the beginning or
    a failure until the next answer is applied. ``floor`` is the index of what is known already.
    """

    def __init__(
        self,
        link: Link,
        pulse: Pulse,
        ask: Ask[T],
        apply: Callable[[T], Awaitable[bool]],
        told: Callable[[Watch[T]], None] = lambda _watch: None,
        *,
        over: Callable[[], bool] = lambda: False,
        floor: int = 0,
    ) -> None:
        self._link, self._pulse, self._ask, self._apply, self._told = link, pulse, ask, apply, told
        self._over = over
        self.behind = True
        self.resets = 0
        #: The index of what was applied last: it outlives the failures that end the waiting on it.
        self._floor = floor

    async def run(self) -> None:
        """Until ``apply`` or ``over`` says so, or cancelled. No ConsulError comes out."""
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
                elif self._over():
                    return
                self.resets += new < self._floor
                self._floor = new
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
            return await self._link.read(self._ask, self._floor)
        new, value = await self._ask(self._link.watching, index)
        if new.number >= index:
            return new.number, value
        return await self._link.read_exactly(self._ask)  # it went backwards: this body may be an old one

    def _set_behind(self, *, behind: bool) -> None:
        if behind != self.behind:
            self.behind = behind
            self._told(self)
