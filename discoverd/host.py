"""The host's own addresses: askers that have one of them ask from the host itself."""

from __future__ import annotations

import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

from discoverd.config.machine import interfaces

if TYPE_CHECKING:
    from discoverd.model import IPAddress

#: Seconds for which a reading is good; a new container network brings the host a new address.
GOOD_FOR = 2.0


class HostAddresses:
    """Callable that gives the addresses of all interfaces, read again when the reading is old."""

    def __init__(self) -> None:
        self._read_at = float("-inf")
        self._addresses: frozenset[IPAddress] = frozenset()

    def __call__(self) -> frozenset[IPAddress]:
        now = time.monotonic()
        if now - self._read_at > GOOD_FOR:
            self._addresses = frozenset(ip_address(i.ip) for i in interfaces())
            self._read_at = now
        return self._addresses

    def forget(self) -> None:
        """Read anew at the next call: networks have changed."""
        self._read_at = float("-inf")
