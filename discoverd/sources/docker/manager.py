"""When and how a Swarm manager is asked: at each sync, on events, and for its tasks from time to time.

A manager has events of services and nodes, but none of tasks: what happens to those on other nodes is
found by asking. An engine with no network of a swarm's is asked nothing of this, a worker once
and then again only where it may have become a manager.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from typing import TYPE_CHECKING

from discoverd.sources.docker.fault import EngineAwayError, EngineError, NotManagerError
from discoverd.sources.docker.services import parse_services
from discoverd.sources.docker.shape import part, text
from discoverd.sources.docker.swarm import Report
from discoverd.sources.docker.tasks import parse_nodes, parse_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from discoverd.model import IPAddress
    from discoverd.sources.docker.book import Book, Update
    from discoverd.sources.docker.client import Client
    from discoverd.sources.docker.shape import Json
    from discoverd.sources.docker.workers import Workers

log = logging.getLogger("discoverd.docker")

#: Seconds between two readings of the tasks of a swarm with more than one node.
POLL = 3.0
#: The same while something has happened within the last LIVELY seconds: a task follows its service, and
#: the manager hears of a container's start after the container's own event.
SOON = 0.5
LIVELY = 10.0
#: Reading a large swarm's tasks may take at most one part in so many of the time.
SHARE = 20.0
#: The network by which containers that are on overlay networks only get out, and ask for names.
GATEWAY_BRIDGE = "docker_gwbridge"
UNWATCHED = "Swarm services are not watched, only the containers of their tasks on this node"


class Manager:
    """Asks one engine for its swarm's services, and writes into the book what it says."""

    def __init__(
        self, client: Client, workers: Workers, book: Book, source: str, complaints: set[str]
    ) -> None:
        """``complaints`` are what was said already, before this connection too."""
        self._client, self._workers, self._book, self._source = client, workers, book, source
        self._lock = asyncio.Lock()
        #: False where it has said that it is no manager.
        self._manages = True
        self._report = Report()
        self._complaints = complaints
        self._lively_until = 0.0
        self._took = 0.0

    @property
    def polling(self) -> bool:
        """Whether there are tasks that change without an event."""
        if not self._report.services:
            return False
        return len(self._report.nodes) != 1 or asyncio.get_running_loop().time() < self._lively_until

    @property
    def pause(self) -> float:
        """Seconds until the tasks are worth another reading."""
        lively = asyncio.get_running_loop().time() < self._lively_until
        return max(SOON if lively else POLL, SHARE * self._took)

    def stir(self) -> None:
        """Something has happened: for a while, more of it is expected."""
        self._lively_until = asyncio.get_running_loop().time() + LIVELY

    def doubt(self) -> None:
        """The engine may have become another kind of node."""
        self._manages = True

    async def read(self, *, whole: bool) -> Update:
        """Ask for everything, or (not ``whole``) for tasks only. Raises EngineAwayError.

        Where the engine refuses, that is said once, and what was known stays.
        """
        async with self._lock:
            if not self._book.networks.swarm:
                self._manages, self._report = True, Report()
                return self._book.set_swarm(self._report, {})
            try:
                if whole or self._report.services:
                    self._report = await self._ask(whole=whole)
                    self._complaints.discard(UNWATCHED)
            except NotManagerError:
                self._manages, self._report = False, Report()
            except EngineAwayError:
                raise
            except EngineError as fault:
                self._complain(UNWATCHED, fault)
            return self._book.set_swarm(self._report, await self._gateways())

    async def _ask(self, *, whole: bool) -> Report:
        if not self._manages:
            return Report()
        services, nodes = self._report.services, self._report.nodes
        if whole:
            services = parse_services(await self._workers.run(self._client.services))
            try:
                nodes = parse_nodes(await self._workers.run(self._client.nodes))
            except EngineAwayError:
                raise
            except EngineError as fault:
                self._complain("tasks of nodes that are down are not told apart", fault)
        loop = asyncio.get_running_loop()
        began = loop.time()
        tasks = parse_tasks(await self._workers.run(self._client.tasks), nodes) if services else ()
        self._took = loop.time() - began
        return Report(services=services, tasks=tasks, nodes=nodes)

    async def _gateways(self) -> Mapping[str, tuple[IPAddress, ...]]:
        if GATEWAY_BRIDGE not in self._book.networks.ids:
            return {}
        look: Callable[[], Json] = lambda: self._client.network(GATEWAY_BRIDGE)  # noqa: E731
        try:
            return parse_endpoints(await self._workers.run(look))
        except EngineAwayError:
            raise
        except EngineError as fault:
            self._complain("containers on overlay networks are not told apart when they ask", fault)
            return {}

    def _complain(self, what: str, fault: EngineError) -> None:
        if what not in self._complaints:
            self._complaints.add(what)
            log.warning("%s: %s: %s", self._source, what, fault)


def parse_endpoints(network: Json) -> dict[str, tuple[IPAddress, ...]]:
    """Container id -> its addresses on one network, by the network's inspect."""
    found: dict[str, tuple[IPAddress, ...]] = {}
    containers = part(network, "Containers")
    for key in containers:
        endpoint = part(containers, key)
        addresses: list[IPAddress] = []
        for given in (text(endpoint, "IPv4Address"), text(endpoint, "IPv6Address")):
            try:
                addresses.append(ipaddress.ip_address(given.partition("/")[0]))
            except ValueError:
                continue
        if addresses:
            found[key] = tuple(addresses)
    return found
