"""One datacenter: its services and nodes, each service followed by a query of its own.

Only names that exist are followed, since a query for one that does not wakes with every service
that vanishes. A service's query ends by itself when its service has gone. Services beyond the
connections that the agent allows are left to :mod:`.poll`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from typing import TYPE_CHECKING, Any

from discoverd.model import SourceState
from discoverd.sources.consul.errors import AwayError
from discoverd.sources.consul.parse import Parser
from discoverd.sources.consul.poll import Poller
from discoverd.sources.consul.pulse import Pulse
from discoverd.sources.consul.watch import Watch
from discoverd.supervise import spawn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from discoverd.catalog import Catalog, Endpoint, Node
    from discoverd.sources.base import Sink
    from discoverd.sources.consul.adapter import Client, Index
    from discoverd.sources.consul.instances import Importer
    from discoverd.sources.consul.link import Ask, Link

log = logging.getLogger("discoverd.consul")

#: Services up to which a query waits WAIT seconds; with more of them LONG_WAIT, so that asking again
#: stays cheap for the agent.
MANY, WAIT, LONG_WAIT = 1000, 60, 300
#: What an empty catalog means: to a token without rights Consul shows nothing, and says no word of it.
NOTHING = "no service is to be seen, not even consul: the token may not read services"
#: Services of a first sync after which the garbage collector leaves alone what there is by now.
FREEZE_EVERY = 500
#: Services begun with before other work gets its turn.
SLICE = 100


class Follower:
    """Follows one datacenter, named in lower case, while :meth:`run` runs.

    Status details: ``services``, how many of them are ``watched`` each by itself and how many
    ``polled``, ``outages``, ``resets`` of an index.
    """

    def __init__(
        self,
        link: Link,
        datacenter: str,
        importer: Importer,
        sink: Sink,
        catalog: Catalog,
        *,
        detail: Mapping[str, int | str],
    ) -> None:
        """``detail`` is more to show in the status, by whoever changes it."""
        self.link, self.name, self.datacenter = link, importer.source, datacenter
        self._importer, self._sink, self._catalog = importer, sink, catalog
        self._held = catalog.follow(datacenter)
        #: Services that an earlier process knew: what became of them then is made anew.
        self._unconfirmed = set(self._held.services) if self._held.restored else set()
        self._parser = Parser()
        self.pulse = Pulse(self.name, link.control, datacenter, self.tell)
        #: Services as the catalog lists them, by name in lower case.
        self._listed: dict[str, tuple[str, ...]] = {}
        self._list_text = ""
        self._watched: set[str] = set()
        self._behind: set[Watch[Any]] = set()
        self._poller = Poller(self)
        self._resets = 0
        self._detail = detail
        self._added = 0
        self._warned = 0

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            spawn(group, f"{self.name} pulse", self.pulse.run())
            spawn(group, f"{self.name} nodes", self._follow(self._ask_nodes, self._take_nodes))
            spawn(group, f"{self.name} list", self._follow(self._ask_list, self._take_list))
            spawn(group, f"{self.name} polled", self._poller.run())

    def _follow(
        self,
        ask: Ask[Any],
        take: Callable[[Any], Awaitable[bool]],
        over: Callable[[], bool] = lambda: False,
        floor: int = 0,
    ) -> Coroutine[Any, Any, None]:
        watch: Watch[Any] = Watch(self.link, self.pulse, ask, take, self._note, over=over, floor=floor)
        self._behind.add(watch)
        return self._run(watch)

    async def _run(self, watch: Watch[Any]) -> None:
        try:
            await watch.run()
        finally:
            self._resets += watch.resets
            self._behind.discard(watch)
        self.tell()

    # -- questions ------------------------------------------------------------------------

    def waiting(self, index: int) -> list[tuple[str, str]]:
        """The parameters of a question that waits for what comes after an index; 0 does not wait."""
        params = [("dc", self.datacenter)]
        if index:
            params += [("index", str(index)), ("wait", self._wait)]
        return params

    @property
    def _wait(self) -> str:
        return f"{WAIT if len(self._listed) <= MANY else LONG_WAIT}s"

    async def _ask_list(self, client: Client, index: int) -> tuple[Index, str]:
        return await client.get("/v1/catalog/services", self.waiting(index))

    async def _ask_nodes(self, client: Client, index: int) -> tuple[Index, dict[str, Node]]:
        new, entries = await client.catalog.nodes(index=index or None, wait=self._wait, dc=self.datacenter)
        return new, _read(self._parser.nodes, entries)

    def asking(self, name: str) -> Ask[tuple[Endpoint, ...]]:
        """The question for a service's endpoints; its name in any letter case."""

        async def ask(client: Client, index: int) -> tuple[Index, tuple[Endpoint, ...]]:
            new, entries = await client.health.service(
                name, index=index or None, wait=self._wait, dc=self.datacenter
            )
            return new, _read(self._parser.endpoints, entries)

        return ask

    # -- answers --------------------------------------------------------------------------

    async def _take_nodes(self, nodes: dict[str, Node]) -> bool:
        self._catalog.set_nodes(self.datacenter, nodes)
        return False

    async def _take_list(self, text: str) -> bool:
        """Follow what is new. That something is gone, its own query notices."""
        if text == self._list_text:
            self._poller.moved()
            return False
        try:
            listed = {name.lower(): tuple(tags) for name, tags in json.loads(text).items()}
        except (ValueError, AttributeError, TypeError):
            raise AwayError(f"no list of services: {text[:60]!r}") from None
        if self._listed.keys() - listed.keys():
            await self.pulse.look()  # a token that has lost its rights sees less, too
        self._list_text, self._listed = text, listed
        new = [key for key in listed if key not in self._watched and key not in self._poller]
        for number, key in enumerate(new, 1):
            self._begin(key)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        self._poller.listed(listed)
        for key in self._held.services.keys() - listed.keys() - self._watched:
            if key not in self._poller:  # it went while nobody looked
                await self.take_service(key, ())
        self._warn_beyond_budget()
        return False

    def _begin(self, key: str, index: int = 0) -> None:
        """Follow one more service, known as of ``index``: by itself while a connection is left for it."""
        if not self.link.take():
            self._poller.add(key)
            return

        async def take(endpoints: tuple[Endpoint, ...]) -> bool:
            return await self.take_service(key, endpoints)

        def over() -> bool:
            return self._is_over(key)

        self._watched.add(key)
        # made here and not in the task: until it has read its service, all this is not in step
        watching = self._follow(self.asking(key), take, over, index)

        async def follow() -> None:
            try:
                await watching
            finally:
                self._watched.discard(key)
                self.link.give_back()
            if (polled := self._poller.release()) is not None:
                self._begin(*polled)

        spawn(self._group, f"{self.name} {key}", follow())

    async def take_service(self, key: str, endpoints: tuple[Endpoint, ...]) -> bool:
        """Publish what changed of a service; True once it has gone from the catalog's list as well."""
        known = self._held.services.get(key, ())
        if known and not endpoints:
            # gone, or only out of sight of a token that has lost its rights, perhaps for a moment
            await self.pulse.look()
            _, endpoints = await self.link.read_exactly(self.asking(key))
        if not known and not self._held.synced:
            self._added += 1
            if self._added % FREEZE_EVERY == 0:
                gc.freeze()  # else looking through all of them again and again stops all answers meanwhile
        if known != endpoints or key in self._unconfirmed:
            self._unconfirmed.discard(key)
            self._catalog.set_service(self.datacenter, key, endpoints)
            self._sink.publish(key, self._importer.instances(endpoints))
        return self._is_over(key)

    def _is_over(self, key: str) -> bool:
        """Whether a service has gone: it may lose its last endpoint before the list is read again."""
        return key not in self._listed and not self._held.services.get(key)

    def stands_on(self, key: str, nodes: set[str]) -> bool:
        """Whether a service has an endpoint on any of these nodes."""
        return any(e.node.name in nodes for e in self._held.services.get(key, ()))

    # -- status ---------------------------------------------------------------------------

    def _note(self, watch: Watch[Any]) -> None:
        was = bool(self._behind)
        (self._behind.add if watch.behind else self._behind.discard)(watch)
        if was != bool(self._behind):
            self.tell()

    def tell(self) -> None:
        """Say how current all this is: LIVE only where every service was read since the last outage."""
        trouble = self.pulse.trouble
        in_step = trouble is None and not self._behind and not self._poller.behind
        if in_step and not self._listed:  # the servers themselves are a service, in every datacenter
            in_step, trouble = False, NOTHING
        if in_step and not self._held.synced:
            self._catalog.in_step(self.datacenter)
            log.info("%s: in step, %d services", self.name, len(self._listed))
        state = SourceState.LIVE if in_step else SourceState.STALE
        self._sink.status(
            state if self._held.synced else SourceState.SYNCING,
            trouble,
            services=len(self._listed),
            watched=len(self._watched),
            polled=len(self._poller),
            outages=self.pulse.outages,
            resets=self._resets,
            **self._detail,
        )

    def _warn_beyond_budget(self) -> None:
        """Say once, and again when it has doubled, what the agent would have to allow."""
        if len(self._poller) and len(self._listed) >= 2 * self._warned:
            self._warned = len(self._listed)
            log.warning(
                "%s: %d services, and connections to the agent for %d of them: the others are polled,"
                " at a higher price; set limits { http_max_conns_per_client = %d } in the agent's"
                " configuration",
                self.name,
                len(self._listed),
                len(self._watched),
                self.link.limit_for(len(self._listed) + 10),
            )


def _read(parse: Callable[[Any], Any], entries: Any) -> Any:
    try:
        return parse(entries)
    except ValueError as error:
        raise AwayError(f"no answer of a Consul agent: {error}") from None
