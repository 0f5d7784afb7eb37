"""Whether a datacenter can be asked now, and whether what it says is current.

One small read again and again, instead of a retry by each of thousands of queries. It reads the
service ``consul``, which is always there: a token that saw it once and sees it no more has
lost its rights, and whatever else vanishes then has not gone.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from discoverd.sources.consul.errors import AwayError, ConsulError, DeniedError
from discoverd.sources.consul.pace import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoverd.sources.consul.adapter import Client, Index

log = logging.getLogger("discoverd.consul")

#: Seconds between two looks while all is well, and for one look.
INTERVAL, PATIENCE = 3.0, 4.0
#: Seconds between two tries with a token that was refused, at least and at most.
DENIED = (30.0, 60.0)
#: Milliseconds since a server heard of its leader, beyond which what it says is old.
LAG_MOST = 10_000
CANARY = "consul"
#: Seconds between two lines about outages.
QUIET = 30.0


class Pulse:
    """One datacenter's. ``told`` is called after every look."""

    def __init__(self, source: str, client: Client, datacenter: str, told: Callable[[], None]) -> None:
        self._source, self._client, self._datacenter, self._told = source, client, datacenter, told
        #: Why it cannot be asked, or what it says is old; None while all is well.
        self.trouble: str | None = "not asked yet"
        self.outages = 0
        self._open = asyncio.Event()
        self._hurry = asyncio.Event()
        self._looking = asyncio.Lock()
        self._begun = 0
        self._fault: ConsulError | None = None
        self._seen = False
        self._retry = Retry(last=10.0)
        self._since: float | None = None
        self._logged = float("-inf")
        self._loud = False

    async def ready(self) -> None:
        """Return when it can be asked; an answer may still be old."""
        await self._open.wait()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def hurry(self) -> None:
        """Something failed: look now."""
        self._hurry.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._hurry.clear()
            try:
                await self.look()
                pause = INTERVAL if self.trouble is None else 1.0
            except DeniedError:
                pause = random.uniform(*DENIED)  # noqa: S311 - spreads load, keeps no secret
            except ConsulError:
                pause = 0.1 + self._retry.failed()
            if self._open.is_set():
                self._retry.reset()
                await _wait(self._hurry, pause)
            else:
                await asyncio.sleep(pause)

    async def look(self) -> None:
        """One look that begins from now on, shared by all who ask for one meanwhile. Raises ConsulError
        where it cannot be asked.
        """
        wanted = self._begun + 1
        async with self._looking:
            if self._begun < wanted:
                self._begun += 1
                self._fault = None
                try:
                    self._reopen(await self._ask())
                except ConsulError as error:
                    self._fault = error
                    self._close(str(error))
            if self._fault is not None:
                raise self._fault

    async def _ask(self) -> Index:
        try:
            async with asyncio.timeout(PATIENCE):
                index: Index
                index, found = await self._client.health.service(CANARY, dc=self._datacenter)
        except TimeoutError:
            raise AwayError(f"{self._client.http.base_uri} does not answer") from None
        if self._seen and not found:
            raise AwayError(
                "the service consul is no longer to be seen:"
                " the agent begins anew, or the token has lost its rights"
            )
        self._seen = bool(found)
        return index

    def _close(self, why: str) -> None:
        if self._open.is_set() or self._since is None:
            self.outages += 1
            self._begin(why)
        elif why != self.trouble:
            log.debug("%s: %s", self._source, why)
        self._open.clear()
        self.trouble = why
        self._told()

    def _reopen(self, index: Index) -> None:
        old = not index.known_leader or index.last_contact > LAG_MOST
        if old:
            why = f"no leader is known to it, or not for long: last contact {index.last_contact} ms ago"
            if self._since is None:
                self._begin(why)
            self.trouble = why
        else:
            self.trouble = None
            if self._since is not None and self._loud:
                seconds = asyncio.get_running_loop().time() - self._since
                log.info("%s: in step again after %.1f s", self._source, seconds)
            self._since = None
        self._open.set()
        self._told()

    def _begin(self, why: str) -> None:
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = now
            self._loud = now - self._logged >= QUIET
        if self._loud:
            self._logged = now
            log.warning("%s: %s; trying again, what was known stays", self._source, why)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
