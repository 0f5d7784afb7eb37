"""An answer as the log keeps it, and what is read from it when it is written. Pure."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

from discoverd.dns.hits import TYPES
from discoverd.dns.message import HEADER_SIZE

RCODES: Final = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
TRUNCATED: Final = 0x02  # TC, in octet 2 of the header
_FAMILY: Final = struct.Struct("=H")


@dataclass(frozen=True, slots=True)
class Question:
    name: str
    type: str


def address_of(peer: bytes | tuple[str, int]) -> tuple[str, int]:
    """Address and port, of a sockaddr (ip(7), ipv6(7)) or as they are; the port is 0 where not known."""
    if isinstance(peer, tuple):
        return peer
    port = int.from_bytes(peer[2:4], "big")
    if _FAMILY.unpack_from(peer)[0] == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, peer[8:24]), port
    return socket.inet_ntop(socket.AF_INET, peer[4:8]), port


def question_of(reply: bytes) -> Question:
    """What was asked, by a reply of ours. Names as RFC 1035 section 5.1 writes them."""
    if not reply[5]:
        return Question("-", "-")
    labels: list[str] = []
    at = HEADER_SIZE
    while at < len(reply) and (length := reply[at]):
        labels.append("".join(map(_escaped, reply[at + 1 : at + 1 + length])))
        at += 1 + length
    number = int.from_bytes(reply[at + 1 : at + 3], "big")
    return Question(".".join(labels) + ".", TYPES.get(number, f"TYPE{number}"))


def _escaped(octet: int) -> str:
    if octet in b'.\\"':
        return "\\" + chr(octet)
    return chr(octet) if 0x21 <= octet <= 0x7E else f"\\{octet:03}"


def rcode_of(reply: bytes) -> str:
    """By its name, or by its number."""
    number = reply[3] & 15
    return RCODES[number] if number < len(RCODES) else f"RCODE{number}"
