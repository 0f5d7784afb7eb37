"""What must hold for any octets that a handler is given, however they came about."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype

from discoverd.dns.cookies import CLIENT_SIZE, Cookies
from discoverd.dns.denial import Denial
from discoverd.dns.fastpath import Fastpath
from discoverd.dns.handler import Foreign, Handler
from discoverd.dns.message import COOKIE
from discoverd.dns.transfer import Transfer
from discoverd.model import Health, Port, SourceState
from discoverd.registry import Registry
from discoverd.resolver.local import Local, Settings
from discoverd.views import Views
from tests.dns.serving import instance

if TYPE_CHECKING:
    from discoverd.dns.store import Store

ASKER, OWN = "127.0.0.1", "127.0.0.53"
UDP_SIZE = 1232
#: Rcodes that may stand without a question: where it cannot be read, or there is none (cookies).
BARE = {
    dns.rcode.FORMERR,
    dns.rcode.NOTIMP,
    dns.rcode.BADVERS,
    dns.rcode.NOERROR,
    dns.rcode.BADCOOKIE,
}


class Subject:
    """A handler with everything behind it, over services of every kind."""

    def __init__(self, *, recursion: bool = False) -> None:
        registry = Registry()
        local = Local(registry, Settings(domains=("docker", "other.example")))
        cookies = Cookies(b"a secret of the tests")
        self.fastpath = Fastpath(UDP_SIZE, denial=Denial(local), cookies=cookies.answers)
        self.handler = Handler(
            local,
            Views(registry, frozenset),
            self.fastpath,
            version="0",
            may_recurse=lambda _asker: recursion,
            cookies=cookies,
            identity="discoverd fuzz",
        )
        writer = registry.writer("test", "test")
        writer.replace({i.id: [i] for i in services()})
        writer.status(SourceState.LIVE)

    @property
    def store(self) -> Store:
        return self.fastpath.askers.get(ASKER) or self.handler.place(ASKER, OWN)

    def check(self, packet: bytes, *, tcp: bool) -> None:
        """Ask the handler and the fast path; AssertionError where a reply is not as it must be."""
        reply = self.handler.handle(packet, self.store, OWN, ASKER, tcp=tcp)
        check(packet, reply, tcp=tcp)
        if tcp:
            self._check_stream(packet)
        elif isinstance(reply, bytes):
            fast = self.fastpath.reply(self.store, packet, ASKER)
            if fast is not None:
                check(packet, packet[:2] + fast, tcp=False)
                check_same(reply, packet[:2] + fast)
        else:
            assert self.fastpath.reply(self.store, packet, ASKER) is None

    def _check_stream(self, packet: bytes) -> None:
        reply = self.handler.handle_stream(packet, self.store, OWN, ASKER)
        if not isinstance(reply, Transfer):
            check(packet, reply, tcp=True)
            return
        parts = [part for part in reply.messages if part]
        for part in parts:
            check(packet, part, tcp=True)
        assert parts


def services() -> list[Any]:
    return [
        *(instance("web", f"192.0.2.{i}", ports=(80, 8080), scope="shop", replica=i) for i in (1, 2, 3)),
        instance("six", "2001:db8::6", ports=(443,), tags=("v1",), meta=(("path", "/"), ("x", "y" * 200))),
        instance(
            "wild", "192.0.2.9", ports=(Port(53, "udp", "dns"),), extra_names=("*.wild", "deep.below.here")
        ),
        instance("sick", "192.0.2.10", health=Health.UNHEALTHY),
        *(instance("many", f"10.0.0.{i}", ports=(80,)) for i in range(100)),
        *(instance("fat", f"10.0.1.{i}", meta=((f"k{i}", "v" * 240),)) for i in range(8)),
    ]


def check(packet: bytes, reply: bytes | Foreign | None, *, tcp: bool) -> None:
    """A reply, or its absence, is right for these octets."""
    if len(packet) < 12 or packet[2] & 0x80:
        assert reply is None, "silence is due"
        return
    if isinstance(reply, Foreign):
        assert (packet[2] >> 3) & 0xF == 0
        assert packet[2] & 1, "forwarded without RD"
        return
    assert reply is not None, "an answer is due"
    assert len(reply) <= allowed(packet, tcp=tcp)
    parsed = dns.message.from_wire(reply)  # raises where anything is malformed, or stands behind
    flags = int.from_bytes(packet[2:4], "big")
    assert reply[:2] == packet[:2], "id"
    assert parsed.flags & dns.flags.QR
    assert parsed.flags & 0x7800 == flags & 0x7800, "opcode"
    assert parsed.flags & dns.flags.RD == flags & dns.flags.RD
    assert not parsed.flags & (dns.flags.AD | dns.flags.CD | 0x40)
    assert parsed.ednsflags & 0x7FFF == 0
    if reply[4:6] == b"\0\0":
        assert parsed.rcode() in BARE
        assert not parsed.answer
        assert not parsed.authority
    else:
        end = 12 + len(parsed.question[0].name.to_wire() or b"") + 4
        assert reply[4:6] == b"\0\1"
        assert reply[12:end] == packet[12:end], "the question as it came"
    assert not (parsed.flags & dns.flags.TC and tcp)


def allowed(packet: bytes, *, tcp: bool) -> int:
    """Octets that the reply to a query may have: read by dnspython, or the least there is."""
    if tcp:
        return 65535
    try:
        query = dns.message.from_wire(packet, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return _walked_size(packet)
    return max(512, min(query.payload, UDP_SIZE)) if query.edns == 0 else 512


def _walked_size(packet: bytes) -> int:
    """The same by hand, for queries that dnspython finds fault with in records that mean nothing here."""
    counts = struct.unpack("!4H", packet[4:12])
    offset, size = 12, 512
    try:
        for number in range(sum(counts)):
            while packet[offset]:
                if packet[offset] >= 0xC0:
                    offset += 1
                    break
                offset += 1 + packet[offset]
            offset += 1
            if number < counts[0]:
                offset += 4
                continue
            kind, rclass, _, length = struct.unpack_from("!HHIH", packet, offset)
            offset += 10 + length
            if kind == dns.rdatatype.OPT:
                size = max(size, min(rclass, UDP_SIZE))
    except (IndexError, struct.error):
        pass
    return size


def check_same(slow: bytes, fast: bytes) -> None:
    """Two replies to one query differ in nothing but the order of their records."""
    ours, theirs = dns.message.from_wire(slow), dns.message.from_wire(fast)
    assert (ours.id, ours.flags, ours.rcode()) == (theirs.id, theirs.flags, theirs.rcode())
    assert (ours.edns, ours.ednsflags, ours.payload) == (theirs.edns, theirs.ednsflags, theirs.payload)
    assert _options(ours) == _options(theirs)
    assert slow[4:12] == fast[4:12], "counts"
    assert ours.question == theirs.question
    if not ours.flags & dns.flags.TC:
        assert _records(ours.answer) == _records(theirs.answer)
        assert _records(ours.authority) == _records(theirs.authority)


def _options(reply: dns.message.Message) -> list[tuple[int, bytes, int]]:
    """Octets and size of each; of a cookie the client's part alone, as the other holds the time."""
    raw = [(int(option.otype), option.to_wire() or b"") for option in reply.options]
    return [(code, data[:CLIENT_SIZE] if code == COOKIE else data, len(data)) for code, data in raw]


def _records(section: list[Any]) -> set[tuple[str, int, int, str]]:
    return {(s.name.to_text(), s.ttl, int(s.rdtype), str(r)) for s in section for r in s}
