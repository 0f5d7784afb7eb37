"""Properties of the handler, bytes in, bytes out: for queries that are nearly right, and for any octets.

What must hold is in tests/fuzz/invariants.py, which the fuzzer shares.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import dns.message
import dns.rcode
from hypothesis import example, given, settings
from hypothesis import strategies as st

from discoverd.dns import message
from discoverd.dns.handler import Foreign
from discoverd.resolver.local import Local
from tests.dns.serving import query
from tests.fuzz.invariants import ASKER, OWN, Subject, check, check_same

if TYPE_CHECKING:
    import pytest

KNOWN = (
    *("web", "web.shop", "2.web.shop", "all.web", "six", "v1.six", "many", "fat", "sick", "wild", "x.wild"),
    *("deep.below.here", "below.here", "_8080._tcp.web", "_http._tcp.web.shop", "_tcp.web", "_tcp", "ns", ""),
    *("_http._tcp", "_services._dns-sd._udp", "six-2001-db8--6._https._tcp", "nobody", "*.wild", "all"),
)
SUFFIXES = ("docker", "other.example", "example.com", "1.2.0.192.in-addr.arpa", "ip6.arpa", "")
TYPES = (1, 2, 5, 6, 12, 15, 16, 28, 33, 41, 65, 249, 250, 251, 252, 255)


def labels(name: str) -> bytes:
    return b"".join(bytes([len(x)]) + x.encode() for x in name.split(".") if x)


names = st.one_of(
    st.builds(lambda a, b: labels(a) + labels(b) + b"\0", st.sampled_from(KNOWN), st.sampled_from(SUFFIXES)),
    st.lists(st.binary(min_size=1, max_size=63), max_size=6).map(
        lambda found: b"".join(bytes([len(x)]) + x for x in found) + labels("docker") + b"\0"
    ),
    st.integers(0, 270).map(  # up to and beyond the longest name there can be
        lambda size: (
            b"".join(bytes([n]) + b"a" * n for n in [63] * (size // 64) if n)
            + bytes([size % 64])
            + b"b" * (size % 64)
            + labels("docker")
            + b"\0"
        )
    ),
)


@st.composite
def cased(draw: st.DrawFn) -> bytes:
    """A name in any letter case; lengths are below 64 and no letters."""
    name = draw(names)
    mask = draw(st.integers(0, 2 ** len(name) - 1))
    return bytes(c ^ 0x20 if 0x61 <= c <= 0x7A and mask >> i & 1 else c for i, c in enumerate(name))


options = st.lists(
    st.tuples(st.sampled_from((3, 8, 9, 10, 11, 12, 15, 100, 65001)), st.binary(max_size=45)), max_size=4
)


@st.composite
def opts(draw: st.DrawFn) -> bytes:
    """An OPT record, mostly of version 0."""
    made = draw(options | st.just([]) | st.binary(min_size=8, max_size=8).map(lambda c: [(10, c)]))
    data = b"".join(struct.pack("!HH", code, len(value)) + value for code, value in made)
    size = draw(st.sampled_from((0, 100, 512, 700, 1232, 4096, 65535)))
    ttl = draw(st.sampled_from((0, 0, 0x8000, 0x4000, 0x10000, 0xFF000000)))
    return struct.pack("!BHHIH", 0, 41, size, ttl, len(data)) + data


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """Well-formed queries: any question, any flags, with OPT or not, records before and behind it."""
    flags = draw(st.sampled_from((0, 0, 0x100, 0x10, 0x20, 0x40, 0x7B0)))
    question = draw(cased()) + struct.pack(
        "!HH", draw(st.sampled_from(TYPES) | st.integers(0, 65535)), draw(st.sampled_from((1, 1, 1, 3, 255)))
    )
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + b"abcd"
    answers, authority, before, behind = draw(
        st.sampled_from(((0, 0, 0, 0), (0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 1, 1)))
    )
    opt = draw(st.just(b"") | opts())
    head = message.HEADER.pack(
        draw(st.integers(0, 65535)), flags, 1, answers, authority, before + behind + bool(opt)
    )
    return head + question + record * (answers + authority + before) + opt + record * behind


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """The same with octets changed, cut off, doubled, or put behind."""
    packet = bytearray(draw(queries()))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(packet) - 1)))
        kind = draw(st.integers(0, 3))
        if kind == 0 and packet:
            packet[at] = draw(st.integers(0, 255))
        elif kind == 1:
            del packet[at:]
        elif kind == 2:
            packet[at:at] = packet[at : at + draw(st.integers(1, 40))]
        else:
            packet += draw(st.binary(max_size=20))
    return bytes(packet)


SUBJECTS = {recursion: Subject(recursion=recursion) for recursion in (False, True)}
BOTH = st.booleans()


@settings(max_examples=300, deadline=None)
@given(queries() | mangled() | st.binary(max_size=300), BOTH, BOTH)
@example(b"", False, False)
@example(bytes(11), True, False)
@example(bytes(12), False, False)
def test_any_octets_are_answered_as_they_must_be(packet: bytes, tcp: bool, recursion: bool) -> None:
    SUBJECTS[recursion].check(packet, tcp=tcp)


@settings(max_examples=100, deadline=None)
@given(queries(), st.lists(queries(), max_size=4))
def test_what_is_kept_changes_no_answer(packet: bytes, before: list[bytes]) -> None:
    """A query is answered the same whether others, and itself, were answered before or not."""
    subject = SUBJECTS[False]
    subject.fastpath.clear()
    fresh = subject.handler.handle(packet, subject.store, OWN, ASKER)
    for other in (*before, packet):
        subject.check(other, tcp=False)
    used = subject.handler.handle(packet, subject.store, OWN, ASKER)
    assert isinstance(fresh, bytes)
    assert isinstance(used, bytes)
    check_same(fresh, used)


@settings(max_examples=150, deadline=None)
@given(queries())
def test_a_well_formed_query_gets_more_than_formerr(packet: bytes) -> None:
    """FORMERR for what cannot be answered only: types that are no data, cookies of impossible lengths."""
    try:
        query = message.parse(packet)
    except message.MalformedError:
        return  # the name was too long
    reply = SUBJECTS[False].handler.handle(packet, SUBJECTS[False].store, OWN, ASKER)
    assert isinstance(reply, bytes)
    if reply[3] & 0xF == message.FORMERR:
        cookies = [len(data) for code, data in (query.edns.options if query.edns else ()) if code == 10]
        assert query.question.type in (41, 249, 250, 251) or cookies[0] not in (8, *range(16, 41))


def test_a_fault_of_ours_is_servfail(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Local, "resolve", broken)
    subject = Subject()
    for edns in ({}, {"use_edns": 0}):
        packet = query("web.docker", **edns).to_wire()  # type: ignore[arg-type]
        reply = subject.handler.handle(packet, subject.store, OWN, ASKER)
        check(packet, reply, tcp=False)
        assert isinstance(reply, bytes)
        parsed = dns.message.from_wire(reply)
        assert parsed.rcode() == dns.rcode.SERVFAIL
        assert (parsed.edns == 0) == bool(edns)
    assert "no answer to web.docker (type 1)" in caplog.text


def test_only_who_may_has_names_forwarded() -> None:
    subject = Subject(recursion=True)
    wanted, unwanted = query("example.com"), query("example.com")
    wanted.flags |= 0x100
    reply = subject.handler.handle(wanted.to_wire(), subject.store, OWN, ASKER, tcp=True)
    assert isinstance(reply, Foreign)
    assert reply.tcp
    assert reply.asked.plain() == wanted.to_wire()[2:]
    refused = subject.handler.handle(unwanted.to_wire(), subject.store, OWN, ASKER)
    assert isinstance(refused, bytes)
    assert dns.message.from_wire(refused).rcode() == dns.rcode.REFUSED
