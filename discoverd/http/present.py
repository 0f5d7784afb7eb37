"""Registry values as the API's JSON. Pure; docs/http.md describes the shapes."""

from __future__ import annotations

import asyncio
import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

from discoverd.registry import names_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from discoverd.model import Instance, SourceStatus
    from discoverd.registry import Registry

#: Instances written as JSON before the event loop gets its turn: some 3 ms.
SLICE = 200


def instance(value: Instance, domain: str) -> dict[str, Any]:
    """One instance, names in full without the final dot."""
    return {
        "id": value.id,
        "service": value.service,
        "scope": value.scope,
        "source": value.source,
        "state": value.state.value,
        "health": value.health.value,
        "addresses": [{"network": a.network, "address": str(a.ip)} for a in value.addresses],
        "ports": [
            {"name": p.name, "port": p.port, "protocol": p.protocol, "published": p.published}
            for p in value.ports
        ],
        "tags": list(value.tags),
        "meta": dict(value.meta),
        "weight": value.weight,
        "ttl": value.ttl,
        "names": [f"{name}.{domain}" for name in names_of(value)],
    }


def _key(value: Instance) -> tuple[str, str]:
    """What an instance stands under: its service; one-off containers under their own names."""
    if not (value.in_service or value.task) and value.own_names:
        return value.own_names[0], value.scope
    return value.service, value.scope


async def services(instances: Iterable[Instance], domain: str) -> AsyncIterator[str]:
    """The JSON list of all services by name and scope, each with its instances, in pieces.

    What is written is the state at the call, however long the reader takes.
    """
    ordered = sorted(instances, key=lambda i: (*_key(i), i.replica or 0, i.id))
    pieces: list[str] = []
    written = 0
    before = "["
    for (name, scope), group in groupby(ordered, key=_key):
        head = json.dumps({"name": name, "scope": scope})[:-1]
        pieces.append(f'{before}{head}, "instances": ')
        before = "["
        for value in group:
            pieces.append(before + json.dumps(instance(value, domain)))
            before = ", "
            written += 1
            if written % SLICE == 0:
                yield "".join(pieces)
                pieces.clear()
                await asyncio.sleep(0)
        pieces.append("]}")
        before = ", "
    pieces.append("]" if ordered else "[]")
    yield "".join(pieces)


def source(status: SourceStatus, instances: int) -> dict[str, Any]:
    """A source's state; times in Unix seconds."""
    return {
        "name": status.name,
        "kind": status.kind,
        "state": status.state.value,
        "last_sync": status.last_sync,
        "last_error": status.last_error,
        "instances": instances,
        "detail": dict(status.detail),
    }


def sources(registry: Registry) -> list[dict[str, Any]]:
    return [source(s, registry.count(s.name)) for s in registry.statuses()]
