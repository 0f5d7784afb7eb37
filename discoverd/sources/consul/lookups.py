"""What only the agent knows, asked when somebody wants it: prepared queries, Connect, other datacenters.

Prepared queries cannot be waited for (https://github.com/hashicorp/consul/issues/4969), and
following every datacenter for the sake of one question would be too much.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from discoverd.catalog import Fetched
from discoverd.sources.consul.errors import AwayError, BusyError, ConsulError, NotFoundError, RequestError
from discoverd.sources.consul.parse import Parser

if TYPE_CHECKING:
    from discoverd.catalog import Lookup
    from discoverd.sources.consul.adapter import Client

#: Seconds that one answer serves all who ask for the same; a query's own TTL, if that is longer.
FRESH = 1.0
#: Seconds that the last answer stands in while the agent cannot be asked.
STAND_IN = 300.0
#: Answers kept, and lookups under way at a time.
KEPT_MOST, WAITING_MOST = 2000, 200
#: Seconds for one lookup: whoever asks by DNS gives up soon.
PATIENCE = 4.0

_TTL = re.compile(r"(\d+)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(slots=True)
class _Kept:
    fetched: Fetched
    at: float


class Lookups:
    """Asks one agent. Those who want the same at a time share one answer."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._parser = Parser()
        self._kept: dict[Lookup, _Kept] = {}
        self._locks: dict[Lookup, asyncio.Lock] = {}

    async def fetch(self, lookup: Lookup) -> Fetched:
        """What the agent says. Raises ConsulError where it cannot be asked and was not lately."""
        if (fresh := self._fresh(lookup)) is not None:
            return fresh
        if lookup not in self._locks and len(self._locks) >= WAITING_MOST:
            raise BusyError(f"{WAITING_MOST} lookups are under way")
        lock = self._locks.setdefault(lookup, asyncio.Lock())
        try:
            async with lock:
                return self._fresh(lookup) or await self._ask(lookup)
        finally:
            if not lock.locked():
                self._locks.pop(lookup, None)

    def _fresh(self, lookup: Lookup) -> Fetched | None:
        kept = self._kept.get(lookup)
        if kept is None or _now() - kept.at > max(FRESH, kept.fetched.ttl):
            return None
        return kept.fetched

    async def _ask(self, lookup: Lookup) -> Fetched:
        try:
            async with asyncio.timeout(PATIENCE):
                fetched = await self._execute(lookup)
        except (ConsulError, TimeoutError) as error:
            kept = self._kept.get(lookup)
            if isinstance(error, RequestError) or kept is None or _now() - kept.at > STAND_IN:
                if isinstance(error, ConsulError):
                    raise
                raise AwayError(f"{self._client.http.base_uri} does not answer") from None
            return kept.fetched
        self._kept.pop(lookup, None)
        if len(self._kept) >= KEPT_MOST:
            self._kept.pop(next(iter(self._kept)))
        self._kept[lookup] = _Kept(fetched, _now())
        return fetched

    async def _execute(self, lookup: Lookup) -> Fetched:
        name, where = lookup.name, lookup.datacenter
        if "/" in name:  # it would be another path of the agent's API
            return Fetched(where)
        try:
            if lookup.kind == "query":
                return self._of_query(await self._client.query.execute(name, dc=where), where)
            if lookup.kind == "node":
                _, found = await self._client.catalog.node(name, dc=where)
                return Fetched(where, node=self._parser.nodes([found["Node"]]).get(name) if found else None)
            _, body = await self._client.get(f"/v1/health/{lookup.kind}/{name}", [("dc", where)])
            return Fetched(where, self._parser.endpoints(json.loads(body)))
        except NotFoundError:
            return Fetched(where)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AwayError(f"no answer of a Consul agent to {name}: {error!r}") from None

    def _of_query(self, said: dict[str, Any], asked: str) -> Fetched:
        ttl = (said.get("DNS") or {}).get("TTL") or ""
        seconds = sum(int(number) * _SECONDS[unit] for number, unit in _TTL.findall(ttl))
        endpoints = self._parser.endpoints(said["Nodes"])
        return Fetched((said.get("Datacenter") or asked).lower(), endpoints, ttl=int(seconds))


def _now() -> float:
    return asyncio.get_running_loop().time()
