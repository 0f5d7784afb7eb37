"""The host's own addresses and interfaces: askers that have one of its addresses ask from the host itself."""

from __future__ import annotations

import socket
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

from discoverd.interfaces import interfaces

if TYPE_CHECKING:
    from discoverd.interfaces import IPInterface
    from discoverd.model import IPAddress, IPNetwork

#: Seconds for which a reading is good; a new container network brings the host a new address.
GOOD_FOR = 2.0


class HostAddresses:
    """Callable that gives the addresses of all interfaces, read again when the reading is old."""

    def __init__(self) -> None:
        self._read_at = float("-inf")
        self._found: tuple[IPInterface, ...] = ()
        self._addresses: frozenset[IPAddress] = frozenset()
        self._networks: frozenset[IPNetwork] = frozenset()

    def __call__(self) -> frozenset[IPAddress]:
        self._read()
        return self._addresses

    def on_link(self, address: IPAddress) -> bool:
        """Whether an address is on a network that an interface of this host is on."""
        self._read()
        return any(address in network and network.num_addresses > 1 for network in self._networks)

    @property
    def networks(self) -> frozenset[IPNetwork]:
        """The networks that this host has an address on; a single address may be one."""
        self._read()
        return self._networks

    def interfaces(self) -> frozenset[str]:
        """The names of the interfaces there are now; none where the system does not tell."""
        try:
            return frozenset(name for _, name in socket.if_nameindex())
        except OSError:
            return frozenset()

    @property
    def name(self) -> str:
        """The host's name; in a container of its own, discoverd's is usually its short id."""
        return socket.gethostname()

    def forget(self) -> None:
        """Read anew at the next call: networks have changed."""
        self._read_at = float("-inf")

    def _read(self) -> None:
        now = time.monotonic()
        if now - self._read_at > GOOD_FOR:
            self._read_at = now
            found = interfaces()
            if found is self._found:
                return  # and what was made of them stays the same objects
            if not found:  # it cannot be asked now, for want of a file descriptor: there are always some
                return
            self._found = found
            self._addresses = frozenset(ip_address(i.ip) for i in found)
            self._networks = frozenset(i.network for i in found)
