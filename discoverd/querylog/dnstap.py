"""Log entries as dnstap messages (https://dnstap.info, dnstap.proto), in frame streams. Pure.

Protocol buffers need no library here: two kinds of messages with a dozen fields in all.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from discoverd.querylog.entry import address_of

if TYPE_CHECKING:
    from discoverd.dns.observer import Entry

CONTENT_TYPE: Final = b"protobuf:dnstap.Dnstap"
#: Control frames (https://farsightsec.github.io/fstrm): type numbers, and their only field.
ACCEPT, START, STOP, READY, FINISH = 1, 2, 3, 4, 5
FIELD_CONTENT_TYPE: Final = 1
_U32: Final = struct.Struct("!I")
_FIXED32: Final = struct.Struct("<I")

VARINT, BYTES, FIXED = 0, 2, 5  # wire types
AUTH_RESPONSE, CLIENT_RESPONSE = 2, 6
MESSAGE: Final = 1
FAMILIES: Final = {4: 1, 16: 2}  # by the octets of an address: INET, INET6
PROTOCOLS: Final = {"udp": 1, "tcp": 2, "https": 4}
NANO: Final = 10**9


def varint(value: int) -> bytes:
    """https://protobuf.dev/programming-guides/encoding/#varints."""
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def number(field: int, value: int) -> bytes:
    return varint(field << 3 | VARINT) + varint(value)


def octets(field: int, value: bytes) -> bytes:
    return varint(field << 3 | BYTES) + varint(len(value)) + value


def fixed32(field: int, value: int) -> bytes:
    return varint(field << 3 | FIXED) + _FIXED32.pack(value)


class Encoder:
    """Makes frames of entries. ``identity`` and ``version`` say who writes."""

    def __init__(self, identity: str, version: str) -> None:
        self._head = octets(1, identity.encode()) + octets(2, version.encode())
        self._tail = number(15, MESSAGE)

    def frame(self, entry: Entry) -> bytes:
        """A data frame: an answer of ours, or one that somebody else gave."""
        when, took, protocol, peer, own, reply, forwarded = entry
        address, port = address_of(peer)
        packed = _packed(address)
        asked, answered = divmod(when, NANO), divmod(when + took, NANO)
        message = b"".join((
            number(1, CLIENT_RESPONSE if forwarded else AUTH_RESPONSE),
            number(2, FAMILIES[len(packed)]),
            number(3, PROTOCOLS[protocol]),
            octets(4, packed),
            octets(5, _packed(own[0])) if own else b"",
            number(6, port) if port else b"",
            number(7, own[1]) if own else b"",
            number(8, asked[0]),
            fixed32(9, asked[1]),
            number(12, answered[0]),
            fixed32(13, answered[1]),
            octets(14, reply),
        ))  # fmt: skip
        return framed(self._head + octets(14, message) + self._tail)


def framed(data: bytes) -> bytes:
    return _U32.pack(len(data)) + data


def control(kind: int, *, content_type: bool = False) -> bytes:
    """A control frame, with its escape."""
    body = _U32.pack(kind)
    if content_type:
        body += _U32.pack(FIELD_CONTENT_TYPE) + _U32.pack(len(CONTENT_TYPE)) + CONTENT_TYPE
    return _U32.pack(0) + _U32.pack(len(body)) + body


def accepts(body: bytes, kind: int) -> bool:
    """Whether a control frame's body is of this kind, and names our content type if it names any."""
    if body[:4] != _U32.pack(kind):
        return False
    return len(body) == 4 or CONTENT_TYPE in body


def _packed(address: str) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address.partition("%")[0])
