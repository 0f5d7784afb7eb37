"""Records in wire format, read back by dnspython, wherever in a message they stand."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import permutations

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoverd.dns import message, wire
from discoverd.dns.wire import Prepared
from discoverd.resolver.outcome import (
    NS,
    PTR,
    SOA,
    SRV,
    TXT,
    Answer,
    Fail,
    HinfoData,
    NameData,
    NoData,
    NotOurs,
    NxDomain,
    Record,
    SoaData,
    SrvData,
    TxtData,
)

QUESTION = b"\3web\6docker\0\0\x01\0\x01"
SOA_DATA = SoaData("ns.docker", "hostmaster.docker", 2**32 - 1, 60, 10, 3600, 5)
RECORDS = (
    (Record(1, 5, ip_address("192.0.2.1")), "web.docker. 5 IN A 192.0.2.1"),
    (Record(28, 0, ip_address("2001:db8::1")), "web.docker. 0 IN AAAA 2001:db8::1"),
    (Record(1, 2**31 - 1, ip_address("0.0.0.0"), "a.b.docker"), "a.b.docker. 2147483647 IN A 0.0.0.0"),
    (Record(SRV, 5, SrvData(0, 65535, 1, "w-1.docker")), "web.docker. 5 IN SRV 0 65535 1 w-1.docker."),
    (Record(TXT, 5, TxtData((b"a=b", b"", b"x" * 255))), f'web.docker. 5 IN TXT "a=b" "" "{"x" * 255}"'),
    (Record(PTR, 5, NameData("x.web.docker"), "y.docker"), "y.docker. 5 IN PTR x.web.docker."),
    (Record(NS, 5, NameData("ns.docker"), "docker"), "docker. 5 IN NS ns.docker."),
    (
        Record(SOA, 5, SOA_DATA, "docker"),
        "docker. 5 IN SOA ns.docker. hostmaster.docker. 4294967295 60 10 3600 5",
    ),
    (
        Record(SOA, 5, SoaData("ns.other", "hostmaster.other", 1, 2, 3, 4, 5), "other"),
        "other. 5 IN SOA ns.other. hostmaster.other. 1 2 3 4 5",
    ),
    (Record(13, 5, HinfoData("RFC8482", "")), 'web.docker. 5 IN HINFO "RFC8482" ""'),
)


def read(*packed: bytes) -> list[str]:
    head = message.HEADER.pack(1, 0x8000, 1, len(packed), 0, 0)
    parsed = dns.message.from_wire(head + QUESTION + b"".join(packed), one_rr_per_rrset=True)
    return [rrset.to_text() for rrset in parsed.answer]


@pytest.mark.parametrize(("record", "text"), RECORDS, ids=[f"{r.type} {r.owner}" for r, _ in RECORDS])
def test_a_record_is_what_it_says(record: Record, text: str) -> None:
    assert read(wire.pack(record, QUESTION)) == [text]


def test_records_point_at_the_question_only() -> None:
    """So that they can stand in any order."""
    for order in permutations(RECORDS, 3):
        assert read(*(wire.pack(r, QUESTION) for r, _ in order)) == [text for _, text in order]


def test_glue_does_not_depend_on_the_questions_letter_case() -> None:
    """HAProxy compares it with the SRV target octet by octet."""
    packed = wire.pack(Record(1, 5, ip_address("192.0.2.1"), "x.web.docker"), QUESTION)
    assert packed.startswith(b"\1x\3web\6docker\0")


def test_names_are_compressed_where_that_is_allowed() -> None:
    assert wire.pack(RECORDS[0][0], QUESTION)[:2] == b"\xc0\x0c"
    assert len(wire.pack(Record(PTR, 5, NameData("x.web.docker")), QUESTION)) == 2 + 10 + 4
    # RFC 2782: no name compression of the target
    assert wire.pack(Record(SRV, 5, SrvData(0, 1, 2, "web.docker")), QUESTION).endswith(b"\3web\6docker\0")


def test_a_record_without_owner_points_nowhere() -> None:
    packed = wire.pack_without_owner(Record(SOA, 5, SOA_DATA, "docker"))
    assert read(b"\xc0\x10" + packed) == [RECORDS[7][1]]
    assert b"\xc0" not in packed


@given(st.lists(st.binary(min_size=1, max_size=63), max_size=4))
def test_any_question_can_be_answered(labels: list[bytes]) -> None:
    question = b"".join(bytes([len(x)]) + x for x in labels).lower() + b"\0\0\x10\0\1"
    for record, _ in RECORDS:
        packed = wire.pack(record, question)
        head = message.HEADER.pack(1, 0x8000, 1, 1, 0, 0)
        dns.message.from_wire(head + question + packed)


def test_outcomes_become_replies() -> None:
    soa = Record(SOA, 5, SOA_DATA, "docker")
    addresses = tuple(Record(1, 5, ip_address(f"192.0.2.{i}")) for i in range(3))
    for outcome, expected in (
        (Answer(addresses, (), ("web",)), (message.NOERROR, 3, 0, ("web",), 3)),
        (Answer(addresses, rotate=False), (message.NOERROR, 3, 0, (), 1)),
        (NoData(soa, ("web",)), (message.NOERROR, 0, 1, ("web",), 1)),
        (NxDomain(soa), (message.NXDOMAIN, 0, 1, (), 1)),
        (Fail("why"), (message.SERVFAIL, 0, 0, (), 1)),
        (NotOurs(), (message.REFUSED, 0, 0, (), 1)),
    ):
        made = wire.prepare(outcome, QUESTION)
        got = (made.rcode, len(made.answers), len(made.authority), made.depends, made.rotations)
        assert got == expected


@given(
    st.lists(st.integers(1, 40), max_size=12),
    st.lists(st.integers(1, 40), max_size=6),
    st.integers(0, 12),
    st.integers(0, 600),
)
def test_as_much_as_fits_goes_in(answers: list[int], extra: list[int], start: int, room: int) -> None:
    made = Prepared(0, tuple(b"a" * n for n in answers), (), tuple(b"e" * n for n in extra))
    start %= made.rotations
    flags, (count, authority, additional), body = made.body(start, room)
    assert len(body) <= room
    assert authority == 0
    assert bool(flags) == (count < len(answers))
    turned = answers[start:] + answers[:start]
    assert body.count(b"a") == sum(turned[:count])
    if flags:
        assert additional == 0
        assert sum(turned[: count + 1]) > room
    else:
        left_out = len(extra) - additional
        assert left_out == 0 or body.count(b"e") + max(extra) > room - sum(answers)
