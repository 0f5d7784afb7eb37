"""Outcomes to records in wire format; the only importer of dnslib.

Every record is packed by itself, with pointers into the question only, so that records can be
put in any order without packing them again.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from itertools import cycle
from typing import TYPE_CHECKING

import dnslib
from dnslib.label import DNSBuffer

from discoverd.dns import message
from discoverd.resolver.outcome import (
    AAAA,
    A,
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


class Prepared:
    """A reply's records, packed once and given out in rotation.

    The rotation state is one for all forms a reply is asked in (UDP, EDNS, TCP).
    """

    __slots__ = ("answers", "authority", "depends", "extra", "rcode", "rotations", "starts", "tails")

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
        self.starts: Iterator[int] = cycle(range(self.rotations))
        #: The bodies of all rotations as the fast path sends them, where it has built them.
        self.tails: list[bytes] | None = None

    def size(self) -> int:
        """Octets of all records, glue left out."""
        return sum(map(len, self.answers)) + sum(map(len, self.authority))

    def body(self, start: int, room: int) -> tuple[int, tuple[int, int, int], bytes]:
        """The records from the start-th on, in at most ``room`` octets.

        Returns the TC flag or 0, the section counts, and the bytes. Whole records only; glue that
        does not fit is left out without TC (RFC 2181 section 9), the answer section never for glue.
        """
        flags, used = 0, 0
        parts: list[bytes] = []
        for record in self.answers[start:] + self.answers[:start]:
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
    name = _name(question)
    if isinstance(outcome, Answer):
        return Prepared(
            message.NOERROR,
            tuple(pack(r, name) for r in outcome.records),
            (),
            tuple(pack(r, name) for r in outcome.extra),
            outcome.depends,
            rotate=outcome.rotate,
        )
    if isinstance(outcome, NoData | NxDomain):
        rcode = message.NOERROR if isinstance(outcome, NoData) else message.NXDOMAIN
        return Prepared(rcode, (), (pack(outcome.soa, name),), (), outcome.depends)
    return Prepared(message.SERVFAIL if isinstance(outcome, Fail) else message.REFUSED)


def _name(question: bytes) -> dnslib.DNSLabel:
    return DNSBuffer(question).decode_name()


def pack(record: Record, question: dnslib.DNSLabel) -> bytes:
    """One record in wire format as it stands behind a question at offset 12."""
    buffer = DNSBuffer(bytes(message.HEADER_SIZE))
    buffer.offset = message.HEADER_SIZE
    buffer.encode_name(question)
    start = buffer.offset
    if record.type in (A, AAAA) and record.owner is not None:
        # glue is matched with its SRV target letter by letter (HAProxy): no pointer into a question
        # that may have come in any letter case
        buffer.names.clear()
    owner = question if record.owner is None else dnslib.DNSLabel(record.owner)
    rdata = _rdata(record.data)
    dnslib.RR(owner, record.type, message.IN, record.ttl, rdata).pack(buffer)
    return bytes(buffer.data[start:])


def pack_chaos(text: TxtData, question: bytes) -> bytes:
    """A TXT record of the CHAOS class at the name that was asked (RFC 4892)."""
    buffer = DNSBuffer(bytes(message.HEADER_SIZE))
    buffer.offset = message.HEADER_SIZE
    name = _name(question)
    buffer.encode_name(name)
    start = buffer.offset
    dnslib.RR(name, 16, message.CH, 0, _rdata(text)).pack(buffer)
    return bytes(buffer.data[start:])


def _rdata(data: Data) -> dnslib.RD:
    match data:
        case IPv4Address():
            return dnslib.A(str(data))
        case IPv6Address():
            return dnslib.AAAA(str(data))
        case SrvData():
            return dnslib.SRV(data.priority, data.weight, data.port, data.target)
        case NameData():
            return dnslib.PTR(data.name)
        case SoaData():
            times = (data.serial, data.refresh, data.retry, data.expire, data.minimum)
            return dnslib.SOA(data.primary, data.mailbox, times)
        case HinfoData():
            return _strings((data.cpu.encode(), data.os.encode()))
        case _:
            return _strings(data.strings)


def _strings(strings: tuple[bytes, ...]) -> dnslib.RD:
    return dnslib.RD(b"".join(bytes([len(s)]) + s for s in strings))
