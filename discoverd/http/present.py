"""Registry values as the API's JSON. Pure; docs/http.md describes the shapes."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from discoverd.registry import names_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from discoverd.model import Instance, SourceStatus


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


def services(instances: Iterable[Instance], domain: str) -> list[dict[str, Any]]:
    """All services by name and scope, each with its instances; one-off containers stand under their
    own names."""

    def key(value: Instance) -> tuple[str, str]:
        if not value.in_service and value.own_names:
            return value.own_names[0], value.scope
        return value.service, value.scope

    ordered = sorted(instances, key=lambda i: (*key(i), i.replica or 0, i.id))
    return [
        {"name": name, "scope": scope, "instances": [instance(i, domain) for i in group]}
        for (name, scope), group in groupby(ordered, key=key)
    ]


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
