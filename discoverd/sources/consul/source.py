"""The source: one agent, the datacenters followed through it, and what of this host goes there."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from discoverd.model import SourceState
from discoverd.sources.consul.errors import ConsulError, DeniedError
from discoverd.sources.consul.instances import Importer
from discoverd.sources.consul.pace import Retry
from discoverd.sources.consul.settings import HOME
from discoverd.supervise import spawn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from discoverd.catalog import Catalog
    from discoverd.sources.base import Sink
    from discoverd.sources.consul.link import Identity, Link
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

    def __init__(self, settings: ConsulSettings, sinks: Mapping[str, Sink], catalog: Catalog) -> None:
        self._settings, self._sinks, self._catalog = settings, sinks, catalog

    async def run(self) -> None:
        """Publish until cancelled. An agent that is away, or says no, is a status and never an error."""
        from discoverd.sources.consul.link import Link

        link = Link(self._settings)
        try:
            identity = await self._identity(link)
            async with asyncio.TaskGroup() as group:
                spawn(group, "consul datacenters", self._watch_datacenters(link))
                for datacenter, sink in self._sinks.items():
                    follow = self._follow(link, identity, datacenter, sink)
                    spawn(group, source_name(datacenter), follow)
        finally:
            await link.close()

    async def _follow(self, link: Link, identity: Identity, datacenter: str, sink: Sink) -> None:
        from discoverd.sources.consul.follow import Follower

        settings, where = self._settings, datacenter or identity.datacenter
        importer = Importer(
            source_name(datacenter),
            where,
            own=(identity.node, settings.instance or identity.node) if settings.export else ("", ""),
            only_passing=settings.only_passing,
            tagged=settings.tagged_address,
        )
        await Follower(link, where, importer, sink, self._catalog).run()

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
