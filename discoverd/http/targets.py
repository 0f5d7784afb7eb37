"""Instances as Prometheus targets (the format of ``http_sd_config``). Pure.

https://prometheus.io/docs/prometheus/latest/http_sd/
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any

from discoverd.nameindex import Found
from discoverd.naming import Binding, Kind
from discoverd.resolver.select import Policy, nowhere, select
from discoverd.resolver.services import named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from discoverd.model import Instance
    from discoverd.resolver.select import Chosen, Hosts
    from discoverd.views import View

PREFIX = "__meta_discoverd_"


def targets(
    instances: Iterable[Instance], view: View, port: str | None = None, hosts: Hosts = nowhere
) -> list[dict[str, Any]]:
    """One group for each TCP port of each running instance, whatever its health: what is unwell is
    what one wants to see. ``port`` (number or name) picks one; addresses are those of the view,
    ``hosts`` those of what uses its host's network stack.
    """

    def key(value: Instance) -> tuple[str, str]:
        return value.service, value.scope

    groups: list[dict[str, Any]] = []
    serving = sorted((i for i in instances if i.in_service), key=lambda i: (*key(i), i.replica or 0, i.id))
    for _, members in groupby(serving, key):
        bindings = tuple(Binding(i, Kind.SERVICE) for i in members)
        found = Found(bindings, exists=True, depends=(), any_health=True)
        for choice in select(found, view, Policy(), hosts).chosen:
            groups.extend(_of(choice, port or None))
    return groups


def _of(choice: Chosen, wanted: str | None) -> Iterator[dict[str, Any]]:
    value = choice.instance
    address = choice.addresses[0]
    host = f"[{address.ip}]" if address.ip.version == 6 else str(address.ip)
    labels = {
        "service": value.service,
        "scope": value.scope,
        "source": value.source,
        "instance": value.id,
        "health": value.health.value,
        "network": address.network,
        # commas on both ends, as Prometheus' own discoveries have it: a regex finds any tag alike
        "tags": f",{','.join(value.tags)}," if value.tags else "",
        **{f"meta_{re.sub('[^a-zA-Z0-9_]', '_', key)}": text for key, text in value.meta},
    }
    for port in value.ports:
        number = port.published if choice.published else port.port
        reached = not choice.published or port.published_beyond_host
        if port.protocol != "tcp" or number is None or not reached or not named(port, wanted):
            continue
        all_labels = {**labels, "port_name": port.name, "port_number": str(port.port)}
        yield {
            "targets": [f"{host}:{number}"],
            "labels": {PREFIX + key: text for key, text in all_labels.items() if text},
        }
