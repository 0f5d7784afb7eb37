"""Looking at the machine for ``discoverd doctor``: sockets, engines, agents, name servers. Reads only."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoverd.config import Endpoint

#: Seconds for one probe.
TIMEOUT = 3.0
#: Where Linux lists sockets by port, and the state of those that listen (include/net/tcp_states.h).
TABLES = {"udp": ("udp", "udp6"), "tcp": ("tcp", "tcp6")}
LISTENS = {"udp": "07", "tcp": "0A"}


def bind_error(endpoint: Endpoint) -> OSError | None:
    """Why an address cannot be bound for UDP or TCP now; None where it can."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((endpoint.host, endpoint.port))
            except OSError as error:
                return error
    return None


def holders(port: int, proc: Path = Path("/proc")) -> list[str]:
    """Who has a port: ``systemd-resolve (pid 312)``; needs root for other users' processes."""
    inodes = {inode for inode, at in _sockets(proc) if at == port}
    found = set()
    for descriptors in proc.glob("[0-9]*/fd"):
        try:
            held = {str(link.readlink()) for link in descriptors.iterdir()}
            if any(f"socket:[{inode}]" in held for inode in inodes):
                name = (descriptors.parent / "comm").read_text().strip()
                found.add(f"{name} (pid {descriptors.parent.name})")
        except OSError:
            continue  # it has ended, or is none of our business
    return sorted(found)


def _sockets(proc: Path) -> Iterator[tuple[str, int]]:
    for protocol, tables in TABLES.items():
        for table in tables:
            try:
                lines = (proc / "net" / table).read_text().splitlines()[1:]
            except OSError:
                continue
            for fields in map(str.split, lines):
                if fields[3] == LISTENS[protocol]:
                    yield fields[9], int(fields[1].rpartition(":")[2], 16)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket of the file system. Raises OSError."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


def engine(path: str, request: str) -> Any:
    """The JSON (or text) that an engine's socket answers with. Raises OSError, ValueError."""
    connection = UnixConnection(path)
    try:
        connection.request("GET", request)
        reply = connection.getresponse()
        data = reply.read()
    except http.client.HTTPException as error:
        raise ValueError(f"it does not speak HTTP: {error}") from None
    finally:
        connection.close()
    if reply.status >= 400:
        raise ValueError(f"status {reply.status}: {data[:200].decode(errors='replace').strip()}")
    return json.loads(data) if "json" in reply.headers.get("Content-Type", "") else data.decode()


def soa_from(server: str, port: int, name: str) -> bytes | None:
    """The raw reply to a question for a name's SOA; None where none comes."""
    ident = secrets.token_bytes(2)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = ident + b"\x01\x00\x00\x01" + bytes(6) + labels + b"\x00\x00\x06\x00\x01"
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.settimeout(TIMEOUT)
        try:
            probe.connect((server, port))
            probe.send(query)
            reply = probe.recv(4096)
        except OSError:
            return None
    return reply if reply[:2] == ident else None
