"""Reading a query and the parts of a reply that hold no records (RFC 1035 section 4.1, RFC 6891).

No record is parsed here but OPT; the rest of a query's records are only walked over.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from discoverd.resolver.outcome import Question

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER = struct.Struct("!HHHHHH")
HEADER_SIZE = 12
MAX_NAME = 255  # octets, RFC 1035 section 2.3.4
PLAIN_UDP = 512  # octets without EDNS, RFC 1035 section 2.3.4
TCP_MOST = 65535  # octets, RFC 1035 section 4.2.2

QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
OPCODE_MASK, OPCODE_SHIFT = 0x7800, 11

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
IN, CH = 1, 3
OPT = 41

#: RFC 6891 section 6.1.1: owner root, type OPT, size, extended rcode, version, flags, no options.
OPT_SIZE = 11
COOKIE, NSID = 10, 3
DO = 0x8000  # RFC 3225


class MalformedError(Exception):
    """A message that cannot be answered but with FORMERR."""


@dataclass(frozen=True, slots=True)
class Edns:
    """A query's OPT record. ``size`` is the asker's UDP payload size in octets."""

    size: int
    version: int
    options: tuple[tuple[int, bytes], ...] = ()
    do: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A query. ``asked`` is the question as it came, name, type and class; it is echoed so."""

    id: int
    flags: int
    asked: bytes
    question: Question
    qclass: int
    edns: Edns | None
    #: The OPT record as it came, where it is the last of the message; else empty.
    opt_record: bytes = b""

    @property
    def key(self) -> bytes:
        """The question without the letter case of its name; lengths are below 64, so no length changes."""
        return self.asked.lower()


def opcode(flags: int) -> int:
    return (flags & OPCODE_MASK) >> OPCODE_SHIFT


def parse(packet: bytes) -> Query:
    """Read a query of at least a header; raises MalformedError."""
    ident, flags, questions, answers, authority, additional = HEADER.unpack_from(packet)
    if questions != 1:
        raise MalformedError(f"{questions} questions instead of one")
    labels, end = _question_name(packet)
    if end + 4 > len(packet):
        raise MalformedError("the question is cut off")
    qtype, qclass = struct.unpack_from("!HH", packet, end)
    edns = _find_opt(packet, end + 4, answers + authority, additional)
    question = Question(".".join(labels), qtype)
    lone = edns is not None and not edns.options and len(packet) == end + 4 + OPT_SIZE
    record = packet[-OPT_SIZE:] if lone else b""
    return Query(ident, flags, packet[HEADER_SIZE : end + 4], question, qclass, edns, record)


def _question_name(packet: bytes) -> tuple[list[str], int]:
    """Labels in lower case and the offset behind the name. There is nothing to point back to yet."""
    labels: list[str] = []
    offset = HEADER_SIZE
    while True:
        if offset >= len(packet):
            raise MalformedError("the name is cut off")
        length = packet[offset]
        offset += 1
        if length == 0:
            break
        if length > 63 or offset + length > len(packet) or offset + length - HEADER_SIZE >= MAX_NAME:
            raise MalformedError("the name is no sequence of labels of at most 255 octets")
        # ours are ASCII; what is not, or would look like two labels, must match nothing
        label = packet[offset : offset + length].lower().decode("latin-1")
        labels.append(label.replace("\\", "\\092").replace(".", "\\046"))
        offset += length
    return labels, offset


def _find_opt(packet: bytes, offset: int, before: int, additional: int) -> Edns | None:
    """The OPT record of the additional section; one at most, owned by the root (RFC 6891 section 6.1.1)."""
    edns: Edns | None = None
    for number in range(before + additional):
        root = offset < len(packet) and packet[offset] == 0
        offset = _skip_name(packet, offset)
        if offset + 10 > len(packet):
            raise MalformedError("a record is cut off")
        rtype, rclass, ttl, length = struct.unpack_from("!HHIH", packet, offset)
        offset += 10
        if offset + length > len(packet):
            raise MalformedError("a record's data is cut off")
        if rtype == OPT:
            if edns is not None or number < before or not root:
                raise MalformedError("OPT stands twice, in the wrong section, or not at the root")
            options = _options(packet[offset : offset + length])
            edns = Edns(rclass, (ttl >> 16) & 0xFF, options, do=bool(ttl & DO))
        offset += length
    return edns


def _skip_name(packet: bytes, offset: int) -> int:
    while offset < len(packet):
        length = packet[offset]
        if length == 0:
            return offset + 1
        if length >= 0xC0:
            return offset + 2
        if length > 63:
            break
        offset += length + 1
    raise MalformedError("a record's name is cut off")


def _options(data: bytes) -> tuple[tuple[int, bytes], ...]:
    options: list[tuple[int, bytes]] = []
    offset = 0
    while offset < len(data):
        if offset + 4 > len(data):
            raise MalformedError("an EDNS option is cut off")
        code, length = struct.unpack_from("!HH", data, offset)
        offset += 4
        if offset + length > len(data):
            raise MalformedError("an EDNS option is longer than its record")
        options.append((code, data[offset : offset + length]))
        offset += length
    return tuple(options)


def opt(size: int, extended_rcode: int = 0, options: Sequence[tuple[int, bytes]] = ()) -> bytes:
    """An OPT record to answer with: version 0, no flags (RFC 6891 section 6.1.2)."""
    data = b"".join(struct.pack("!HH", code, len(value)) + value for code, value in options)
    return struct.pack("!BHHBBHH", 0, OPT, size, extended_rcode, 0, 0, len(data)) + data


def bare(ident: int, request_flags: int, rcode: int) -> bytes:
    """A reply of a header alone, for what cannot be read further."""
    flags = QR | (request_flags & (OPCODE_MASK | RD)) | rcode
    return HEADER.pack(ident, flags, 0, 0, 0, 0)


def reply(
    query: Query, flags: int, rcode: int, sections: tuple[int, int, int], body: bytes, opt: bytes
) -> bytes:
    """A reply that echoes the question. ``sections`` counts answer, authority and additional without OPT."""
    answers, authority, additional = sections
    flags |= QR | (query.flags & (OPCODE_MASK | RD)) | (rcode & 0xF)
    head = HEADER.pack(query.id, flags, 1, answers, authority, additional + bool(opt))
    return b"".join((head, query.asked, body, opt))
