"""``discoverd explain``: what an asker would be answered and why, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from discoverd.commands.table import Table, clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoverd.commands.client import Client


def fetch(client: Client, name: str, rtype: str, asker: str | None) -> Any:
    return client.get("v1", "resolve", name=name, type=rtype, client=asker)


def head(said: Any) -> Iterator[str]:
    """The question, who asks, and the answer."""
    view = said["view"]
    who = f"{said['client']} ({clean(view['client'])})" if view["client"] else said["client"]
    where = view["place"]
    if view["networks"]:
        where += ": " + ", ".join(clean(n) for n in view.get("network_names") or view["networks"])
    yield f"{clean(said['name'])} {said['type']}, asked by {who}, {where}"
    for link in view["links"]:
        yield f"  has the link {clean(link['alias'])}, which leads to {clean(link['target'])}"
    yield f"{said['status']}: {clean(said['reason'])}"
    for record in (*said["answers"], *said["additional"]):
        yield f"  {record['name']}.  {record['ttl']}  {record['type']}  {clean(record['data'])}"
    for hint in said.get("hints", ()):
        yield f"hint: {clean(hint)}"


def considered(said: Any) -> Table | None:
    """A row for each instance that the name leads to; None where there is none."""
    if not said["considered"]:
        return None
    rows = [
        (
            c["name"] or c["id"],
            ".".join(part for part in (c["service"], c["scope"]) if part),
            c["health"] if c["state"] == "running" else c["state"],
            "served" if c["chosen"] else "left out",
            c["why"],
        )
        for c in said["considered"]
    ]
    return Table(("INSTANCE", "SERVICE", "HEALTH", "", "WHY"), rows)
