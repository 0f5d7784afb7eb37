"""Reading a query and the parts of a reply that hold no records (RFC 1035 section 4.1, RFC 6891).

No record is parsed here but OPT; the rest of a query's records are only walked over.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from discoverd.resolver.outcome import Question

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER = struct.Struct("!HHHHHH")
HEADER_SIZE = 12
MAX_NAME, MAX_LABEL = 255, 63  # octets, RFC 1035 section 2.3.4
PLAIN_UDP = 512  # octets without EDNS, RFC 1035 section 2.3.4
TCP_MOST = 65535  # octets, RFC 1035 section 4.2.2

QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
OPCODE_MASK, OPCODE_SHIFT = 0x7800, 11

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, NOTAUTH = 0, 1, 2, 3, 4, 5, 9
BADVERS, BADCOOKIE = 16, 23  # of more than four bits: the upper ones stand in OPT
IN, CH = 1, 3
OPT = 41
ANY_TYPE = 255

#: RFC 6891 section 6.1.1: owner root, type OPT, size, extended rcode, version, flags, no options.
OPT_SIZE = 11
NSID, COOKIE, KEEPALIVE = 3, 10, 11  # RFC 5001, RFC 7873, RFC 7828
DO = 0x8000  # RFC 3225


#: What a query without a question asks.
NOTHING = Question("", 0)


class MalformedError(Exception):
    """A message that cannot be answered but with FORMERR.

    ``query`` is what could be read of it: its question, and OPT where only the options are wrong.
    None where not even the question could be read.
    """

    def __init__(self, text: str, query: Query | None = None) -> None:
        super().__init__(text)
        self.query = query


class Edns(NamedTuple):
    """A query's OPT record. ``size`` is the asker's UDP payload size in octets.

    Options are read in version 0 only: what they look like in others is not known.
    """

    size: int
    version: int
    options: tuple[tuple[int, bytes], ...] = ()
    do: bool = False


class Query(NamedTuple):
    """A query. ``asked`` is the question as it came, name, type and class; it is echoed so.

    It is empty where nothing is asked (RFC 7873 section 5.4).
    """

    id: int
    flags: int
    asked: bytes
    question: Question
    qclass: int
    edns: Edns | None
    #: The OPT record as it came, where it ends the message and has no option; with a cookie alone,
    #: up to the cookie; else empty.
    opt_record: bytes = b""

    @property
    def key(self) -> bytes:
        """The question without the letter case of its name; lengths are below 64, so no length changes."""
        return self.asked.lower()


def opcode(flags: int) -> int:
    return (flags & OPCODE_MASK) >> OPCODE_SHIFT


def parse(packet: bytes) -> Query:
    """Read a query of at least a header; raises MalformedError. Octets behind it are let be."""
    ident, flags, questions, answers, authority, additional = HEADER.unpack_from(packet)
    if questions > 1:
        raise MalformedError(f"{questions} questions instead of one")  # RFC 9619
    asked, question, qclass, end = b"", NOTHING, IN, HEADER_SIZE
    if questions:
        labels, end = _question_name(packet)
        end += 4
        if end > len(packet):
            raise MalformedError("the question is cut off")
        qtype, qclass = struct.unpack_from("!HH", packet, end - 4)
        asked, question = packet[HEADER_SIZE:end], Question(".".join(labels), qtype)
    edns, opt_record = None, b""
    try:
        found = _find_opt(packet, end, answers + authority, additional)
        if found is not None:
            size, ttl, data = found
            version, do = (ttl >> 16) & 0xFF, bool(ttl & DO)
            edns = Edns(size, version, (), do)
            if data and not version:
                edns = Edns(size, version, _options(data), do)
            if len(packet) == end + OPT_SIZE + len(data) and _plain(edns.options):
                opt_record = packet[end : end + OPT_SIZE + 4]
    except MalformedError as error:
        raise MalformedError(str(error), Query(ident, flags, asked, question, qclass, edns)) from None
    return Query(ident, flags, asked, question, qclass, edns, opt_record)


def _plain(options: tuple[tuple[int, bytes], ...]) -> bool:
    """Whether there is no option, or only a cookie."""
    return not options or (len(options) == 1 and options[0][0] == COOKIE)


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
        if length > MAX_LABEL or offset + length > len(packet) or offset + length - HEADER_SIZE >= MAX_NAME:
            raise MalformedError("the name is no sequence of labels of at most 255 octets")
        # ours are ASCII; what is not, or would look like two labels, must match nothing
        label = packet[offset : offset + length].lower().decode("latin-1")
        labels.append(label.replace("\\", "\\092").replace(".", "\\046"))
        offset += length
    return labels, offset


def _find_opt(packet: bytes, offset: int, before: int, additional: int) -> tuple[int, int, bytes] | None:
    """Class, TTL and data of the OPT record, which stands in the additional section, once, at the
    root (RFC 6891 section 6.1.1); None without one. ``before`` counts records that come first.
    """
    found: tuple[int, int, bytes] | None = None
    for number in range(before + additional):
        root = offset < len(packet) and packet[offset] == 0
        offset = skip_name(packet, offset)
        if offset + 10 > len(packet):
            raise MalformedError("a record is cut off")
        rtype, rclass, ttl, length = struct.unpack_from("!HHIH", packet, offset)
        offset += 10 + length
        if offset > len(packet):
            raise MalformedError("a record's data is cut off")
        if rtype == OPT:
            if found is not None or number < before or not root:
                raise MalformedError("OPT stands twice, in the wrong section, or not at the root")
            found = rclass, ttl, packet[offset - length : offset]
    return found


def skip_name(packet: bytes, offset: int) -> int:
    """The offset behind a name that may end in a pointer; raises MalformedError where it is cut off."""
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


def opt(
    size: int, extended_rcode: int = 0, options: Iterable[tuple[int, bytes]] = (), *, do: bool = False
) -> bytes:
    """An OPT record to answer with: version 0, of the flags DO alone (RFC 6891 section 6.1.2, RFC 3225)."""
    data = b"".join(struct.pack("!HH", code, len(value)) + value for code, value in options)
    return struct.pack("!BHHBBHH", 0, OPT, size, extended_rcode, 0, DO if do else 0, len(data)) + data


def bare(ident: int, request_flags: int, rcode: int) -> bytes:
    """A reply of a header alone, for what cannot be read further."""
    flags = QR | (request_flags & (OPCODE_MASK | RD)) | rcode
    return HEADER.pack(ident, flags, 0, 0, 0, 0)


def reply(  # noqa: PLR0917 - in the order of the message
    query: Query, flags: int, rcode: int, sections: tuple[int, int, int], body: bytes, opt: bytes
) -> bytes:
    """A reply that echoes the question. ``sections`` counts answer, authority and additional without OPT."""
    answers, authority, additional = sections
    flags |= QR | (query.flags & (OPCODE_MASK | RD)) | (rcode & 0xF)
    head = HEADER.pack(query.id, flags, bool(query.asked), answers, authority, additional + bool(opt))
    return b"".join((head, query.asked, body, opt))
