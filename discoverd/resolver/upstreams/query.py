"""What is sent to a name server, and whether what comes back is the reply to it (RFC 5452 section 9).

Queries are made and kept without their id: each transport draws one of its own.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

HEADER_SIZE: Final = 12
HEAD: Final = struct.Struct("!HHHHH")
OPT_RECORD: Final = struct.Struct("!BHHBBHH")
OPT, DO = 41, 0x8000
#: UDP payload size that is asked for: unfragmented on nearly every path (RFC 9715).
UDP_SIZE: Final = 1232
#: An EDNS option of the range for local use (RFC 6891 section 9): by whom a question has come, one mark each.
HOPS: Final = 65313
MARK_SIZE: Final = 8
#: Marks that one question may carry; more servers in a row are no set-up but a loop.
HOPS_MOST: Final = 8

QR, TC = 0x80, 0x02  # of octet 2
FORMERR, SERVFAIL, NOTIMP, REFUSED = 1, 2, 4, 5
#: Errors that say more of the server than of the name: another server may know better.
SERVER_ERRORS: Final = frozenset({FORMERR, SERVFAIL, NOTIMP, REFUSED})
ONE_QUESTION: Final = b"\0\1"


class Asked(NamedTuple):
    """A question to be passed on: flags (RD, AD, CD), name, type and class in wire format, whether DNSSEC
    records are wanted, and the marks it came with.
    """

    flags: int
    question: bytes
    do: bool = False
    hops: bytes = b""

    @property
    def name(self) -> str:
        """As people write it; only who looks at it pays for it."""
        return name_of(self.question)

    def query(self, mark: bytes) -> bytes:
        """The query without its id, with an OPT record that adds ``mark`` to those it came with."""
        record = edns(self.hops + mark, do=self.do)
        return head(self.flags, additional=1) + self.question + record

    def plain(self) -> bytes:
        """The same without OPT, for servers that do not know it (RFC 6891 section 6.2.2)."""
        return head(self.flags, additional=0) + self.question


def name_of(question: bytes) -> str:
    """The name that a question in wire format begins with: lower case, dotted, odd characters escaped."""
    labels, at = [], 0
    while length := question[at]:
        label = question[at + 1 : at + 1 + length].lower().decode("latin-1")
        labels.append(label.replace("\\", "\\092").replace(".", "\\046"))
        at += 1 + length
    return ".".join(labels)


@lru_cache(maxsize=64)
def head(flags: int, *, additional: int) -> bytes:
    """Flags and counts."""
    return HEAD.pack(flags, 1, 0, 0, additional)


def edns(marks: bytes, *, do: bool) -> bytes:
    """An OPT record with these marks."""
    option = struct.pack("!HH", HOPS, len(marks)) + marks
    return OPT_RECORD.pack(0, OPT, UDP_SIZE, 0, 0, DO if do else 0, len(option)) + option


class Attempt(Protocol):
    """One query to one server, as a transport sees it. Exactly one of the two is called, once."""

    #: As it was sent.
    question: bytes

    def replied(self, reply: bytes) -> None: ...

    def failed(self, why: str) -> None: ...


def matches(reply: bytes, question: bytes) -> bool:
    """Whether a message whose id is right is the response to this question, in whatever letter case."""
    if reply.startswith(question, HEADER_SIZE):  # as nearly all servers give it back
        return reply[4:6] == ONE_QUESTION and bool(reply[2] & QR)
    if len(reply) < HEADER_SIZE or not reply[2] & QR:
        return False
    if reply[4:6] == b"\0\0":  # some servers answer what they cannot read with a header alone
        return len(reply) == HEADER_SIZE and reply[3] & 0xF in (FORMERR, NOTIMP)
    asked = reply[HEADER_SIZE : HEADER_SIZE + len(question)]
    return reply[4:6] == ONE_QUESTION and asked.lower() == question.lower()
