"""Zone transfers (RFC 5936, RFC 1995): a domain's records in as many messages as they take."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from discoverd.dns import message, wire
from discoverd.dns.message import HEADER_SIZE, MalformedError, Query, skip_name
from discoverd.resolver.outcome import SOA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoverd.resolver.outcome import Record

log = logging.getLogger("discoverd.dns")

#: Octets of one message: large enough that its header is nothing beside it, small enough that a
#: slow reader holds little of our memory.
MESSAGE_SIZE: Final = 16_384
#: Serial numbers are compared modulo this (RFC 1982).
WRAP: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Transfer:
    """A zone on its way. ``messages`` gives b"" where other work should get its turn; ``busy`` is
    the reply where there is no room for one more transfer.
    """

    messages: Iterator[bytes]
    busy: bytes


def begin(query: Query, opt: bytes, soa: Record, records: Iterator[Record | None]) -> Transfer:
    """A transfer of these records; ``records`` may give None where other work should get its turn."""
    return Transfer(_messages(query, opt, soa, records), _failure(query, opt))


def _messages(query: Query, opt: bytes, soa: Record, records: Iterator[Record | None]) -> Iterator[bytes]:
    """SOA, all records, SOA again (RFC 5936 section 2.2).

    Where the records fail, the last message says SERVFAIL, and what was sent counts for nothing.
    """
    room = MESSAGE_SIZE - HEADER_SIZE - len(query.asked) - len(opt)
    ends = wire.pack(soa, query.key)
    parts, used, total = [ends], len(ends), 0
    try:
        for record in records:
            if record is None:
                yield b""
                continue
            packed = wire.pack(record, query.key)
            if parts and used + len(packed) > room:
                yield _message(query, parts, opt)
                parts, used = [], 0
            parts.append(packed)
            used += len(packed)
            total += 1
    except Exception:
        log.exception("the transfer of %s ends here", query.question.name)
        yield _failure(query, opt)
        return
    log.info("transferred %s: %d records", query.question.name, total)
    yield _message(query, [*parts, ends], opt)


def _message(query: Query, parts: list[bytes], opt: bytes) -> bytes:
    return message.reply(query, message.AA, message.NOERROR, (len(parts), 0, 0), b"".join(parts), opt)


def _failure(query: Query, opt: bytes) -> bytes:
    return message.reply(query, 0, message.SERVFAIL, (0, 0, 0), b"", opt)


def is_current(packet: bytes, query: Query, serial: int) -> bool:
    """Whether an IXFR query comes from who has this serial already, or a newer one (RFC 1995 section 2).

    Raises MalformedError where its authority section does not begin with the zone's SOA record.
    """
    offset = skip_name(packet, HEADER_SIZE + len(query.asked))
    if offset + 10 > len(packet) or int.from_bytes(packet[offset : offset + 2], "big") != SOA:
        raise MalformedError("IXFR without the SOA record that the asker has", query)
    offset = skip_name(packet, skip_name(packet, offset + 10))
    if offset + 4 > len(packet):
        raise MalformedError("the SOA record of an IXFR query is cut off", query)
    ahead = (int.from_bytes(packet[offset : offset + 4], "big") - serial) % WRAP
    return ahead < WRAP // 2
