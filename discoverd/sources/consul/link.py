"""One agent: the clients that ask it, who it is, and how many questions may wait in it at a time."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from discoverd.sources.consul.adapter import Client
from discoverd.sources.consul.errors import AwayError, DeniedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from discoverd.sources.consul.adapter import Index
    from discoverd.sources.consul.settings import ConsulSettings

T = TypeVar("T")
if TYPE_CHECKING:
    #: Asks through a client for what comes after an index, at once where that is 0.
    Ask: TypeAlias = Callable[[Client, int], Awaitable[tuple[Index, T]]]

log = logging.getLogger("discoverd.consul")

#: Plain reads at a time; a sync of ten thousand services is no faster with more.
READERS, EXACT_READERS = 16, 4
#: Connections one client address may have where the agent does not say
#: (https://developer.hashicorp.com/consul/docs/agent/config/config-files#http_max_conns_per_client).
DEFAULT_LIMIT = 200
#: Connections left to other programs of this machine; and what waits in a datacenter beside services: for
#: their list, the nodes, and the checks of polled services.
OTHERS, LISTS = 14, 3
#: Open files that everything else in this process has, and waiting queries that nobody needs more of.
OWN_FILES, FILES_MOST = 512, 100_000


@dataclass(frozen=True, slots=True)
class Identity:
    """What an agent says of itself. ``limit`` is of connections from one address, 0 for none."""

    node: str
    datacenter: str
    limit: int
    enterprise: bool = False


class Link:
    """The way to one agent. ``watching`` is for queries that wait, ``control`` for all others, and
    ``exact`` for reads that a leader answers, and only after a quorum has confirmed it: a new one may
    not know yet what the one before it had said.
    """

    def __init__(self, settings: ConsulSettings) -> None:
        self.settings = settings
        self.watching = Client(settings)
        self.control = Client(settings, connections=READERS)
        self.exact = Client(settings, connections=EXACT_READERS, consistency="consistent")
        self.readers = asyncio.Semaphore(READERS)
        #: Apart from the others: without a leader such a read takes seconds, and fails.
        self._exact_readers = asyncio.Semaphore(EXACT_READERS)
        self.watches = 0
        self._budget = 0

    async def close(self) -> None:
        for client in (self.watching, self.control, self.exact):
            await client.close()

    async def identify(self) -> Identity:
        """Ask who it is, and settle how many queries may wait. Raises ConsulError."""
        try:
            identity = _identity(await self.control.agent.self())
        except DeniedError as denied:
            identity = await self._from_the_outside(denied)
        limit = identity.limit
        allowed = (limit - self.limit_for(0)) // 2 if limit else FILES_MOST
        self._budget = max(1, open_files(min(self.settings.max_watches or allowed, FILES_MOST)))
        if self.settings.namespace:
            if identity.enterprise:
                for client in (self.watching, self.control, self.exact):
                    client.http.namespace = self.settings.namespace
            else:
                log.warning(
                    "consul: the agent has no namespaces: namespace %s is ignored", self.settings.namespace
                )
        return identity

    async def _from_the_outside(self, denied: DeniedError) -> Identity:
        """For a token without agent:read: the datacenter as the nodes next to the agent tell it."""
        _, body = await self.control.get("/v1/catalog/nodes", [("near", "_agent")])
        nodes = json.loads(body)
        if not nodes:
            raise DeniedError(f"{denied}; the token needs agent:read or node:read")
        return Identity("", nodes[0]["Datacenter"], DEFAULT_LIMIT)

    async def read(self, ask: Ask[T], floor: int) -> tuple[int, T]:
        """Ask without waiting: the index and what was said. Raises ConsulError.

        An index below ``floor``, the highest that the same question has had, comes from a server
        that is behind (an election is under way, or it has just started), or from one that began
        anew. The leader then says which.
        """
        async with self.readers:
            new, value = await ask(self.control, 0)
        return (new.number, value) if new.number >= floor else await self.read_exactly(ask)

    async def read_exactly(self, ask: Ask[T]) -> tuple[int, T]:
        """Ask the leader without waiting. Raises ConsulError, also while there is no leader."""
        async with self._exact_readers:
            new, value = await ask(self.exact, 0)
        return new.number, value

    def limit_for(self, watches: int) -> int:
        """The agent's limit of connections that leaves room for so many services.

        A query that its asker gave up keeps its connection until its wait is over: there is room for
        those of a discoverd that was killed, so that it can be started again at once.
        """
        waiting = watches + LISTS * len(self.settings.datacenters)
        return 2 * waiting + READERS + EXACT_READERS + OTHERS

    @property
    def budget(self) -> int:
        return self._budget

    def take(self) -> bool:
        """Take one of the budget's places for a query that waits; False where none is left."""
        if self.watches >= self._budget:
            return False
        self.watches += 1
        return True

    def give_back(self) -> None:
        self.watches -= 1


def open_files(wanted: int) -> int:
    """How many of these connections this process may hold open; its limit is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OWN_FILES
    if needed > soft:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (OSError, ValueError):
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(wanted, soft - OWN_FILES)


def _identity(said: dict[str, dict[str, object]]) -> Identity:
    try:
        config, debug = said["Config"], said.get("DebugConfig") or {}
        limit = debug.get("HTTPMaxConnsPerClient", DEFAULT_LIMIT)
        return Identity(
            node=str(config["NodeName"]),
            datacenter=str(config["Datacenter"]).lower(),
            limit=limit if isinstance(limit, int) else DEFAULT_LIMIT,
            enterprise="+ent" in str(config.get("Version", "")),
        )
    except (KeyError, TypeError, AttributeError):
        raise AwayError("the agent does not say who it is: /v1/agent/self has no Config") from None
