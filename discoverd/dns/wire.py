"""Outcomes to records in wire format; the only importer of dnslib.

Every record is packed by itself, with pointers into the question only, so that records can be
put in any order without packing them again.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import cycle, repeat
from typing import TYPE_CHECKING

import dnslib
from dnslib.label import DNSBuffer

from discoverd.dns import message
from discoverd.resolver.outcome import (
    TXT,
    Answer,
    Data,
    Fail,
    HinfoData,
    NameData,
    NoData,
    NxDomain,
    Outcome,
    Record,
    SoaData,
    SrvData,
    TxtData,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


#: Behind a record's owner: type, class, TTL, octets of data (RFC 1035 section 4.1.3).
FIXED = struct.Struct("!HHIH")
#: Priority, weight, port (RFC 2782).
SRV_NUMBERS = struct.Struct("!HHH")
#: A pointer to the question's name (RFC 1035 section 4.1.4).
QUESTION_NAME = bytes((0xC0, message.HEADER_SIZE))


class Prepared:
    """A reply's records, packed once and given out in rotation.

    The rotation is one for all forms a reply is asked in (EDNS, TCP) until queries are kept, which go on by
    themselves.
    """

    __slots__ = (
        "answers",
        "authority",
        "depends",
        "extra",
        "keys",
        "laid",
        "rcode",
        "rotations",
        "starts",
        "tails",
    )

    def __init__(
        self,
        rcode: int,
        answers: tuple[bytes, ...] = (),
        authority: tuple[bytes, ...] = (),
        extra: tuple[bytes, ...] = (),
        depends: tuple[str, ...] = (),
        *,
        rotate: bool = True,
    ) -> None:
        self.rcode, self.answers, self.authority, self.extra = rcode, answers, authority, extra
        self.depends = depends
        self.rotations = max(1, len(answers)) if rotate else 1
        self.starts: Iterator[int] = cycle(range(self.rotations)) if self.rotations > 1 else repeat(0)
        #: The bodies of all rotations as the fast path sends them, where it has built them; the keys of the
        #: queries that it keeps replies to, and these.
        self.tails: tuple[bytes, ...] | None = None
        self.keys: tuple[bytes, ...] = ()
        self.laid: tuple[bytes, ...] = ()

    def size(self) -> int:
        """Octets of all records, glue left out."""
        return sum(map(len, self.answers)) + sum(map(len, self.authority))

    def body(self, start: int, room: int) -> tuple[int, tuple[int, int, int], bytes]:
        """The records from the start-th on, in at most ``room`` octets.

        Returns the TC flag or 0, the section counts, and the bytes. Whole records only; glue that
        does not fit is left out without TC (RFC 2181 section 9), the answer section never for glue.
        """
        ordered = self.answers[start:] + self.answers[:start]
        whole = b"".join(ordered + self.authority + self.extra)
        if len(whole) <= room:  # nearly always; record by record takes four times as long
            return 0, (len(ordered), len(self.authority), len(self.extra)), whole
        flags, used = 0, 0
        parts: list[bytes] = []
        for record in ordered:
            if used + len(record) > room:
                flags = message.TC
                break
            parts.append(record)
            used += len(record)
        answers = len(parts)
        for record in self.authority:
            if used + len(record) > room:
                flags = message.TC
                break
            parts.append(record)
            used += len(record)
        authority = len(parts) - answers
        if not flags:
            for record in self.extra:
                if used + len(record) <= room:
                    parts.append(record)
                    used += len(record)
        return flags, (answers, authority, len(parts) - answers - authority), b"".join(parts)


def prepare(outcome: Outcome, question: bytes) -> Prepared:
    """Pack an outcome's records for one question (name, type and class in wire format)."""
    if isinstance(outcome, Answer):
        return Prepared(
            message.NOERROR,
            tuple(pack(r, question) for r in outcome.records),
            (),
            tuple(pack(r, question) for r in outcome.extra),
            outcome.depends,
            rotate=outcome.rotate,
        )
    if isinstance(outcome, NoData | NxDomain):
        rcode = message.NOERROR if isinstance(outcome, NoData) else message.NXDOMAIN
        return Prepared(rcode, (), (pack(outcome.soa, question),), (), outcome.depends)
    return Prepared(message.SERVFAIL if isinstance(outcome, Fail) else message.REFUSED)


def pack(record: Record, question: bytes) -> bytes:
    """One record in wire format as it stands anywhere behind a question at offset 12."""
    data = _plain_data(record.data)
    if data is None:
        return _pack(record, question, message.IN)
    # Glue is matched with its SRV target letter by letter (HAProxy): an owner of its own is no
    # pointer into a question that may have come in any letter case.
    owner = QUESTION_NAME if record.owner is None else pack_name(record.owner)
    return owner + FIXED.pack(record.type, message.IN, record.ttl, len(data)) + data


def _plain_data(data: Data) -> bytes | None:
    """Data in which nothing may be compressed: most of all there is, at a tenth of dnslib's time."""
    if isinstance(data, IPv4Address | IPv6Address):
        return data.packed
    if isinstance(data, SrvData):
        return SRV_NUMBERS.pack(data.priority, data.weight, data.port) + pack_name(data.target)
    if isinstance(data, TxtData):
        return _strings(data.strings)
    return None


def pack_without_owner(record: Record) -> bytes:
    """A record behind its owner, for any message: it points nowhere."""
    assert record.owner is not None
    return _pack(record, b"", message.IN)[len(pack_name(record.owner)) :]


def pack_chaos(text: TxtData, question: bytes) -> bytes:
    """A TXT record of the CHAOS class at the name that was asked (RFC 4892)."""
    return _pack(Record(TXT, 0, text), question, message.CH)


def pack_name(name: str) -> bytes:
    """A dotted name without the final dot as labels, without compression."""
    labels = name.encode("ascii").split(b".") if name else []
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


class _Buffer(DNSBuffer):  # type: ignore[misc]  # dnslib has no types
    """Compresses into the question alone, so that records can be put in any order."""

    def __init__(self, question: bytes) -> None:
        super().__init__()
        self.names = _suffixes(question)

    def encode_name(self, name: dnslib.DNSLabel) -> None:
        known = self.names
        self.names = known.copy()
        super().encode_name(name)
        self.names = known


def _pack(record: Record, question: bytes, rclass: int) -> bytes:
    buffer = _Buffer(question)
    if record.owner is None:
        owner = dnslib.DNSLabel(next(iter(buffer.names), ()))
    else:
        owner = dnslib.DNSLabel(record.owner)
    dnslib.RR(owner, record.type, rclass, record.ttl, _rdata(record.data)).pack(buffer)
    return bytes(buffer.data)


@lru_cache(maxsize=8)
def _suffixes(question: bytes) -> dict[tuple[bytes, ...], int]:
    """The name of a question and all above it, by their labels, to where they stand in the message.

    dnslib does not read names of any octets, which questions may have.
    """
    labels: list[bytes] = []
    offsets: list[int] = []
    at = 0
    while question and question[at]:
        offsets.append(message.HEADER_SIZE + at)
        labels.append(question[at + 1 : at + 1 + question[at]])
        at += 1 + question[at]
    return {tuple(labels[i:]): offset for i, offset in enumerate(offsets)}


def _rdata(data: Data) -> dnslib.RD:
    match data:
        case NameData():
            return dnslib.PTR(data.name)
        case SoaData():
            times = (data.serial, data.refresh, data.retry, data.expire, data.minimum)
            return dnslib.SOA(data.primary, data.mailbox, times)
        case HinfoData():
            return dnslib.RD(_strings((data.cpu.encode(), data.os.encode())))
        case _:
            return dnslib.RD(_plain_data(data))


def _strings(strings: tuple[bytes, ...]) -> bytes:
    return b"".join(bytes((len(s),)) + s for s in strings)
