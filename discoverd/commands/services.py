"""``discoverd services``: what the server knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from discoverd.commands.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from discoverd.commands.client import Client

#: Names of an instance that fit a table; --json has all of them.
NAMES_SHOWN = 3


def fetch(client: Client, name: str | None) -> Any:
    """The services as the API gives them. Raises what Client raises; 404 where ``name`` is unknown."""
    return client.get("v1", "services", name) if name else client.get("v1", "services")


def table(said: Any) -> Table:
    """A row for each instance."""
    rows = [
        (
            service_name(service),
            instance["id"],
            fitness(instance),
            ", ".join(addresses(instance["addresses"])),
            ", ".join(ports(instance["ports"])),
            instance["source"],
            names(instance["names"]),
        )
        for service in said["services"]
        for instance in service["instances"]
    ]
    return Table(("SERVICE", "INSTANCE", "HEALTH", "ADDRESSES", "PORTS", "SOURCE", "NAMES"), rows)


def service_name(service: Any) -> str:
    """``web.shop``: the name with its scope."""
    return ".".join(part for part in (service["name"], service["scope"]) if part)


def fitness(instance: Any) -> str:
    """Its health while it runs, else its state."""
    return str(instance["health"] if instance["state"] == "running" else instance["state"])


def addresses(given: Iterable[Any]) -> list[str]:
    return [a["address"] + (f"@{a['network']}" if a["network"] else "") for a in given]


def ports(given: Iterable[Any]) -> list[str]:
    """``http=8080->80/tcp``: name, published port, port, protocol."""
    return [
        (f"{p['name']}=" if p["name"] else "")
        + (f"{p['published']}->" if p["published"] else "")
        + f"{p['port']}/{p['protocol']}"
        for p in given
    ]


def names(given: list[str]) -> str:
    rest = len(given) - NAMES_SHOWN
    return ", ".join(given[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
