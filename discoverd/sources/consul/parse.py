"""Replies of the health and catalog endpoints -> endpoints and nodes. Pure.

https://developer.hashicorp.com/consul/api-docs/health and .../catalog. Null stands for empty
wherever a list or an object may stand. What is no such reply raises a ValueError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from discoverd.catalog import Endpoint, Node, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from discoverd.catalog import Pairs

    Json = Mapping[str, Any]

#: Ids of the critical checks that stand for maintenance mode; the first ends in the service's id.
SERVICE_MAINTENANCE, NODE_MAINTENANCE = "_service_maintenance:", "_node_maintenance"
#: Nodes that are kept once for all their endpoints.
NODES_MOST = 10_000


class Parser:
    """Reads replies; equal nodes become one object, since many services stand on few nodes."""

    def __init__(self) -> None:
        self._nodes: dict[Node, Node] = {}

    def endpoints(self, entries: Iterable[Json] | None) -> tuple[Endpoint, ...]:
        """``/v1/health/service/<name>``, in an order of its own, so that equal contents are equal."""
        try:
            found = [self._endpoint(entry) for entry in entries or ()]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no entry of a health reply: {error!r}") from None
        found.sort(key=lambda e: (e.node.name, e.id))
        return tuple(found)

    def nodes(self, entries: Iterable[Json] | None) -> dict[str, Node]:
        """``/v1/catalog/nodes``, by name in lower case."""
        try:
            return {entry["Node"].lower(): self._node(entry) for entry in entries or ()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no entry of a node list: {error!r}") from None

    def _endpoint(self, entry: Json) -> Endpoint:
        service = entry["Service"]
        weights = service.get("Weights") or {}
        return Endpoint(
            node=self._node(entry["Node"]),
            id=service["ID"],
            service=service["Service"],
            address=service.get("Address") or "",
            port=service.get("Port") or 0,
            tags=tuple(service.get("Tags") or ()),
            meta=_pairs(service.get("Meta")),
            tagged=tuple(
                (tag, each["Address"]) for tag, each in sorted((service.get("TaggedAddresses") or {}).items())
            ),
            status=status_of(entry.get("Checks") or ()),
            weights=(weights.get("Passing", 1), weights.get("Warning", 1)),
        )

    def _node(self, entry: Json) -> Node:
        node = Node(
            name=entry["Node"],
            address=entry["Address"],
            datacenter=(entry.get("Datacenter") or "").lower(),
            meta=_pairs(entry.get("Meta")),
            tagged=_pairs(entry.get("TaggedAddresses")),
        )
        if len(self._nodes) >= NODES_MOST:
            self._nodes.clear()
        return self._nodes.setdefault(node, node)


def status_of(checks: Iterable[Json]) -> Status:
    """The aggregate of node and service checks: maintenance, then critical, warning, passing."""
    worst = Status.PASSING
    for check in checks:
        status, name = check["Status"], check["CheckID"]
        if status == "critical":
            if name == NODE_MAINTENANCE or name.startswith(SERVICE_MAINTENANCE):
                return Status.MAINTENANCE
            worst = Status.CRITICAL
        elif status != "passing" and worst is Status.PASSING:
            worst = Status.WARNING
    return worst


def _pairs(table: Mapping[str, str] | None) -> Pairs:
    return tuple(sorted((table or {}).items()))
