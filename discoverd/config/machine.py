"""What the machine itself says: its addresses, its name servers, its Docker socket.

These are where defaults come from. :func:`this_machine` does the reading; everything else is pure.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from discoverd.config.endpoints import Endpoint
from discoverd.interfaces import interfaces

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from discoverd.interfaces import IPInterface
    from discoverd.model import IPAddress, IPNetwork

RESOLV_CONF = Path("/etc/resolv.conf")
DOCKER_SOCKET = Path("/var/run/docker.sock")
#: Docker's resolver inside a container; it relays to the servers named in its resolv.conf's comment.
EMBEDDED_DNS = ip_address("127.0.0.11")

#: Loopback, private and link-local ranges (RFC 1122, 1918, 3927, 4193, 4291).
LOCAL_NETWORKS = tuple(
    ip_network(text)
    for text in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
        "::1/128", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as far as defaults depend on it."""

    interfaces: tuple[IPInterface, ...] = ()
    resolv_conf: str = ""
    has_docker_socket: bool = False
    is_root: bool = False


def this_machine() -> Machine:
    """Read what defaults need from the machine that this runs on; what cannot be read is left empty."""
    return Machine(
        interfaces=interfaces(),
        resolv_conf=ResolvConf().read(),
        has_docker_socket=DOCKER_SOCKET.is_socket(),
        is_root=os.geteuid() == 0,
    )


class ResolvConf:
    """The file that names the machine's name servers, looked at again from time to time."""

    def __init__(self, path: Path = RESOLV_CONF) -> None:
        self._path = path
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether it is another file, or has been written to, since the last time."""
        before, self._seen = self._seen, self._look()
        return before != self._seen

    def read(self) -> str:
        """Its text; empty where it cannot be read."""
        try:
            return self._path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def is_private(network: IPNetwork) -> bool:
    """Whether a network is within the private, link-local and loopback ranges."""
    return any(
        network.network_address in each and network.prefixlen >= each.prefixlen for each in LOCAL_NETWORKS
    )


def own_networks(machine: Machine) -> tuple[IPNetwork, ...]:
    """The networks that the machine has an address on, each once."""
    return tuple(dict.fromkeys(interface.network for interface in machine.interfaces))


def default_upstreams(machine: Machine, listen: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """The machine's name servers (resolv.conf(5)) without those that are discoverd itself.

    Docker's embedded server is replaced by the servers it relays to where its file names
    them and they can be reached from inside the container, so that no question goes round.
    """
    own = {interface.ip for interface in machine.interfaces}
    servers: list[IPAddress] = []
    relayed: list[IPAddress] = []
    for line in machine.resolv_conf.splitlines():
        if match := re.match(r"nameserver\s+(\S+)", line):
            servers += _addresses([match[1]])
        elif match := re.match(r"#\s*ExtServers:\s*\[(.*)\]", line):
            relayed = _addresses(re.sub(r"host\(([^)]*)\)", r"\1", match[1]).split())
    if servers == [EMBEDDED_DNS] and relayed and not any(ip.is_loopback for ip in relayed):
        servers = relayed
    candidates = dict.fromkeys(Endpoint(ip, 53) for ip in servers if not ip.is_unspecified)
    return tuple(server for server in candidates if not any(_serves(end, server, own) for end in listen))


def _serves(listen: Endpoint, server: Endpoint, own: set[IPAddress]) -> bool:
    """Whether a question to ``server`` would arrive at ``listen``."""
    if listen.port != server.port or server.ip is None:
        return False
    if server.ip == EMBEDDED_DNS:  # Docker diverts it before it reaches any socket
        return False
    return server.ip == listen.ip or (listen.is_wildcard and (server.ip in own or server.ip.is_loopback))


def _addresses(texts: Iterable[str]) -> list[IPAddress]:
    found = []
    for text in texts:
        try:
            found.append(ip_address(text))
        except ValueError:
            continue  # resolv.conf is not ours to refuse
    return found


def default_state_dir(environ: Mapping[str, str], machine: Machine) -> Path | None:
    """Where systemd says, for root /var/lib, else XDG's state directory; None where there is no home."""
    if given := environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(given)
    if machine.is_root:
        return Path("/var/lib/discoverd")
    base = environ.get("XDG_STATE_HOME", "")
    if base.startswith("/"):  # a relative one is to be ignored, says the XDG base directory specification
        return Path(base) / "discoverd"
    home = environ.get("HOME", "")
    return Path(home) / ".local/state/discoverd" if home.startswith("/") else None
