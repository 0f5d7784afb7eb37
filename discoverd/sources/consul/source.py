"""The source: one agent, the datacenters followed through it, and what of this host goes there."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

from discoverd.model import SourceState
from discoverd.sources.consul.errors import AwayError, ConsulError, DeniedError
from discoverd.sources.consul.export import Owner
from discoverd.sources.consul.instances import Importer
from discoverd.sources.consul.pace import Retry
from discoverd.sources.consul.settings import HOME
from discoverd.supervise import spawn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from discoverd.catalog import Catalog, Fetched, Lookup
    from discoverd.sources.base import Sink
    from discoverd.sources.consul.exporter import Exporter, ThisHost
    from discoverd.sources.consul.link import Identity, Link
    from discoverd.sources.consul.lookups import Lookups
    from discoverd.sources.consul.settings import ConsulSettings

log = logging.getLogger("discoverd.consul")

#: Seconds between two looks at which datacenters there are; they cannot be waited for.
DATACENTERS_EVERY = 30.0


def source_name(datacenter: str) -> str:
    """What the source of one datacenter is called."""
    return "consul" if datacenter == HOME else f"consul/{datacenter}"


class ConsulSource:
    """Follows an agent's datacenters while :meth:`run` runs.

    ``sinks`` has one for each of the settings' datacenters; each has its own status, because one
    can be out of reach while the others are not.
    """

    name = "consul"
    kind = "consul"

    def __init__(
        self,
        settings: ConsulSettings,
        sinks: Mapping[str, Sink],
        catalog: Catalog,
        host: ThisHost | None = None,
    ) -> None:
        """``host`` is what is registered with the agent, where the settings say so."""
        self._settings, self._sinks, self._catalog, self._host = settings, sinks, catalog, host
        #: What the exporter wants shown beside the status.
        self._detail: dict[str, int | str] = {}
        self._lookups: Lookups | None = None
        self._exporter: Exporter | None = None
        self._stays = False

    def stay(self) -> None:
        """Leave what is registered in its place at the end: another process looks after it."""
        self._stays = True
        if self._exporter is not None:
            self._exporter.leave = False

    async def look_up(self, lookup: Lookup) -> Fetched:
        """Ask the agent what is not followed. Raises ConsulError."""
        if self._lookups is None:
            raise AwayError("Consul's agent was not reached yet")
        return await self._lookups.fetch(lookup)

    async def run(self) -> None:
        """Publish until cancelled. An agent that is away, or says no, is a status and never an error."""
        from discoverd.sources.consul.link import Link
        from discoverd.sources.consul.lookups import Lookups

        link = Link(self._settings)
        try:
            identity = await self._identity(link)
            self._lookups = Lookups(link.control)
            exporter = self._settings.instance or identity.node or socket.gethostname()
            async with asyncio.TaskGroup() as group:
                spawn(group, "consul datacenters", self._watch_datacenters(link))
                for datacenter, sink in self._sinks.items():
                    follow = self._follow(link, identity, exporter, datacenter, sink)
                    spawn(group, source_name(datacenter), follow)
                if self._settings.export and self._host is not None:
                    spawn(group, "consul export", self._export(link, exporter, self._host))
        finally:
            self._lookups = None
            await link.close()

    async def _follow(
        self, link: Link, identity: Identity, exporter: str, datacenter: str, sink: Sink
    ) -> None:
        from discoverd.sources.consul.follow import Follower

        settings, where = self._settings, datacenter or identity.datacenter
        importer = Importer(
            source_name(datacenter),
            where,
            own=(identity.node, exporter) if settings.export else ("", ""),
            only_passing=settings.only_passing,
            tagged=settings.tagged_address,
        )
        detail = self._detail if datacenter == HOME else {}
        await Follower(link, where, importer, sink, self._catalog, detail=detail).run()

    async def _export(self, link: Link, exporter: str, host: ThisHost) -> None:
        from discoverd.sources.consul.exporter import Exporter

        settings = self._settings
        owner = Owner(exporter, containers=settings.export_address == "container")
        leave = settings.deregister_on_stop and not self._stays
        self._exporter = Exporter(link.control, host, owner, self._detail, leave=leave)
        await self._exporter.run()

    async def _identity(self, link: Link) -> Identity:
        """Who the agent is, once it says so; the first trouble and each different one is logged."""
        retry, said = Retry(last=10.0), ""
        while True:
            try:
                identity = await link.identify()
            except ConsulError as error:
                if str(error) != said:
                    log.warning("consul: %s; trying again, its names are unknown until then", error)
                said = str(error)
                for sink in self._sinks.values():
                    sink.status(SourceState.SYNCING, said)
                await asyncio.sleep(30 if isinstance(error, DeniedError) else 0.2 + retry.failed())
                continue
            before = self._catalog.home
            if before not in ("", identity.datacenter) and HOME in self._sinks:
                log.warning("consul: the agent is in %s now, no longer in %s", identity.datacenter, before)
                self._catalog.drop(before)
                self._sinks[HOME].replace({})
            home = self._catalog.home = identity.datacenter
            log.info("consul: node %s in datacenter %s", identity.node or "(not said)", home)
            return identity

    async def _watch_datacenters(self, link: Link) -> None:
        while True:
            try:
                found = await link.control.catalog.datacenters()
            except ConsulError as error:
                log.debug("%s", error)
            else:
                self._catalog.datacenters = frozenset(name.lower() for name in found)
            await asyncio.sleep(DATACENTERS_EVERY)
