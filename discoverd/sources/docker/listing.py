"""The short list of containers: who is there, and a sign of what may have changed. Pure.

The list costs a hundredth of inspecting everything, but lacks aliases, links, names and details
of health: it tells a periodic resync which containers deserve an inspect.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from discoverd.sources.docker.shape import part, text, texts

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from discoverd.sources.docker.shape import Json

#: ``Up 3 seconds (healthy)``; the seconds change by themselves.
_HEALTH = re.compile(r"\((healthy|unhealthy|health: starting)\)")
_ENDPOINT = ("NetworkID", "EndpointID", "IPAddress", "GlobalIPv6Address")


def fingerprints(entries: Iterable[Json]) -> dict[str, Hashable]:
    """Container id -> a value that differs when something that is served differs."""
    return {text(entry, "Id"): _fingerprint(entry) for entry in entries if text(entry, "Id")}


def _fingerprint(entry: Json) -> Hashable:
    health = _HEALTH.search(text(entry, "Status"))
    networks = part(entry, "NetworkSettings", "Networks")
    return (
        text(entry, "State"),
        health[1] if health else "",
        tuple(sorted(texts(entry, "Names"))),
        tuple(sorted((name, *(text(part(networks, name), key) for key in _ENDPOINT)) for name in networks)),
    )
