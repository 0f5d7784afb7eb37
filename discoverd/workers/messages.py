"""What the main process and a worker say to each other, and how it goes over their socket.

Both ends are the same program, and nobody else has the socket: it has no name. So messages are
pickled values, each behind its length.
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    from typing import Literal

    from discoverd.answering import Choices
    from discoverd.catalog import Endpoint, Fetched, Lookup, Node
    from discoverd.dns.forwarding import Tally
    from discoverd.dns.server import Counts
    from discoverd.model import Instance, Network, SourceState
    from discoverd.nameindex import Gone
    from discoverd.resolver.outcome import Fail

LENGTH: Final = struct.Struct("=I")
#: Octets that are read ahead. A message is a few KiB, but for the nodes of a large Consul datacenter.
READ_AHEAD: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Begin:
    """The first word to a worker. ``sockets`` are (host, port, UDP and TCP descriptor)."""

    number: int
    choices: Choices
    secret: bytes
    level: str
    style: Literal["text", "json"]
    sockets: tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Configure:
    """The configuration was read again."""

    choices: Choices
    level: str


@dataclass(frozen=True, slots=True)
class Flush:
    """Forget what others have answered: of a name and all below it, or all."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Outline:
    """What there is, told before what is in it: sources by name and kind, networks by source,
    datacenters of Consul that are followed.
    """

    sources: tuple[tuple[str, str], ...]
    networks: tuple[tuple[str, tuple[Network, ...]], ...]
    followed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Current:
    """How current all of that is, told once everything else has been: before that a name that is not
    known may be one that is still to come.
    """

    serial: int
    #: Of each source: its name, its state, whether what it says is of an earlier process.
    states: tuple[tuple[str, SourceState, bool], ...]
    home: str
    datacenters: frozenset[str]
    #: Followed datacenters: those in step, and those that are known of an earlier process only.
    synced: frozenset[str]
    restored: frozenset[str]


@dataclass(slots=True)
class Update:
    """What has changed, each as it is now: the same update twice does no harm."""

    outline: Outline | None = None
    #: Source, object, and what is known of it now: nothing where it is gone.
    objects: tuple[tuple[str, str, tuple[Instance, ...]], ...] = ()
    #: Names, and who answered to them a moment ago.
    gone: tuple[tuple[str, tuple[Gone, ...]], ...] = ()
    #: Datacenter, service, endpoints; datacenter and nodes.
    services: tuple[tuple[str, str, tuple[Endpoint, ...]], ...] = ()
    nodes: tuple[tuple[str, dict[str, Node]], ...] = ()
    current: Current | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """A sign of life, once a second and whenever somebody wants to know the counts."""

    number: int


@dataclass(frozen=True, slots=True)
class Tock:
    """The answer to it. ``answering``: from now on, or for a while already, the worker answers."""

    number: int
    counts: Counts
    answering: bool
    foreign: Tally


@dataclass(frozen=True, slots=True)
class LookUp:
    """A worker wants to know what only Consul's agent knows; and what came of that."""

    number: int
    lookup: Lookup


@dataclass(frozen=True, slots=True)
class LookedUp:
    number: int
    found: Fetched | Fail


@dataclass(frozen=True, slots=True)
class Stop:
    """Answer what has come, and end."""


def pack(message: object) -> bytes:
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


async def receive(reader: asyncio.StreamReader) -> Any:
    """The next message. Raises EOFError (also IncompleteReadError) or OSError where there is none."""
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return pickle.loads(await reader.readexactly(length))  # noqa: S301 - between processes of our own
