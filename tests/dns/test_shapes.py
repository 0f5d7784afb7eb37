"""What fits a remembered shape reads as it would record by record."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoverd.dns import foreign, message, shapes, upstreamed
from discoverd.dns.message import HEADER_SIZE, MalformedError
from discoverd.dns.misses import Misses
from discoverd.dns.shapes import Shape, Shapes, shape_of
from discoverd.resolver.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discoverd.dns.outbox import Late

A, NS, CNAME, SOA, TXT, AAAA, OPT, ANY = 1, 2, 5, 6, 16, 28, 41, 255
QUESTION = b"\3www\7example\0"
POINTER = b"\xc0\x0c"


class Record(NamedTuple):
    kind: int
    data: bytes
    owner: bytes = POINTER
    ttl: int = 300

    @property
    def octets(self) -> bytes:
        return self.owner + struct.pack("!HHIH", self.kind, 1, self.ttl, len(self.data)) + self.data


def reply(
    answers: Sequence[Record] = (),
    authority: Sequence[Record] = (),
    additional: Sequence[Record] = (),
    *,
    kind: int = A,
    flags: int = 0x8180,
    behind: bytes = b"",
) -> bytes:
    """To a question for www.example."""
    head = struct.pack("!6H", 7, flags, 1, len(answers), len(authority), len(additional))
    records = b"".join(record.octets for record in (*answers, *authority, *additional))
    return head + QUESTION + struct.pack("!HH", kind, 1) + records + behind


def asked(octets: bytes) -> bytes:
    return octets[HEADER_SIZE : HEADER_SIZE + len(QUESTION) + 4]


def shape(octets: bytes) -> Shape | None:
    return shape_of(octets, HEADER_SIZE + len(asked(octets)), upstreamed.read(octets, asked(octets)))


def rest(octets: bytes) -> bytes:
    return octets[HEADER_SIZE + len(asked(octets)) :]


def fits(known: Shape, octets: bytes) -> bool:
    return int.from_bytes(rest(octets), "big") & known.mask == known.wanted


OPT_RECORD = Record(OPT, b"", b"\0", 0)
SOA_DATA = b"\2ns\xc0\x0c\4root\xc0\x0c" + struct.pack("!5I", 1, 2, 3, 4, 60)

owners = st.sampled_from((POINTER, b"\xc0\x10", b"\3www\7example\0", b"\1a\xc0\x10", b"\0"))
ttls = st.integers(0, 5) | st.integers(0, (1 << 32) - 1) | st.just(90_000)
kinds = st.sampled_from((A, NS, CNAME, SOA, TXT, AAAA, OPT))
records = st.builds(Record, kinds, st.binary(max_size=24), owners, ttls)
sections = st.lists(records, max_size=4)
replies = st.builds(
    reply,
    sections,
    sections,
    sections.map(lambda some: [*some, OPT_RECORD]) | sections,
    kind=st.sampled_from((A, AAAA, CNAME, SOA, ANY)),
    flags=st.sampled_from((0x8180, 0x8580, 0x8183, 0x85B3, 0x8380, 0x8185)),
    behind=st.sampled_from((b"", b"", b"trailing")),
)


@given(replies, st.data())
def test_what_fits_reads_as_it_would_record_by_record(octets: bytes, data: st.DataObject) -> None:
    known = shape(octets)
    if known is None:
        return
    assert fits(known, octets)
    assert known.read(rest(octets)) == upstreamed.read(octets, asked(octets))
    changed, first = bytearray(octets), len(octets) - len(rest(octets))
    if first < len(octets):
        for at in data.draw(st.lists(st.integers(first, len(octets) - 1), max_size=6)):
            changed[at] = data.draw(st.integers(0, 255))
    other = bytes(changed)
    if fits(known, other):
        assert known.read(rest(other)) == upstreamed.read(other, asked(octets))


@given(
    st.lists(
        st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, (1 << 31) - 1)), min_size=3, max_size=3
    )
)
def test_ttls_and_data_make_no_difference(given_: list[tuple[bytes, int]]) -> None:
    known = shape(reply([Record(A, b"\1\2\3\4")] * 3, additional=[OPT_RECORD]))
    assert known is not None
    other = reply([Record(A, data, ttl=ttl) for data, ttl in given_], additional=[OPT_RECORD])
    assert fits(known, other)
    assert known.read(rest(other)).lifetime == min(86_400, *(ttl for _, ttl in given_))


class Sent:
    """An outbox, and a store: all that the answering of misses takes."""

    place = "host"

    def __init__(self) -> None:
        self.replies: list[bytes] = []

    def number(self, _question: bytes, rcode: int) -> int:
        return rcode

    def send(self, late: list[Late]) -> None:
        self.replies += [answer for answer, *_ in late]


@given(
    replies.filter(lambda octets: not octets[2] & 2 and octets[3] & 15 in {0, 3}),
    st.sampled_from((b"", message.opt(1232, 0, []), message.opt(1232, 0, [(10, b"cookie")]))),
    st.sampled_from((512, 100, 1232)),
    st.sampled_from((0, 10)),
)
def test_askers_get_what_they_would(octets: bytes, opt: bytes, limit: int, entries: int) -> None:
    """And the same is kept, whether a reply was read or known by its shape."""
    sent, key = Sent(), asked(octets) + b"\0"
    cache: Cache[upstreamed.Upstreamed] = Cache(entries, 1 << 20, variant=1, clock=lambda: 0.0)
    waits = b"id", b"", b"", opt, limit, sent
    flight: Any = (key, asked(octets), 0x100, 0, waits, SimpleNamespace(began=0))
    misses = Misses(cast("Any", SimpleNamespace(cache=cache)), cast("Any", sent))
    kept = []
    for _ in range(4):
        misses.answered([(flight, octets)])
        entry = cache.peek(key)
        kept.append(None if entry is None else (entry.value, entry.expires))
        cache.flush()
    read = upstreamed.read(octets, asked(octets))
    assert set(sent.replies) == {foreign.given(b"id", asked(octets), opt, limit, read, read.records)}
    assert len(sent.replies) == 4
    assert kept == [(read, read.lifetime) if entries and read.lifetime else None] * 4


PLAIN = reply([Record(A, b"\1\2\3\4")] * 2, additional=[OPT_RECORD])
#: Of as many octets and records as that.
ODD = {
    "another type": reply([Record(A, b"\1\2\3\4"), Record(TXT, b"\3abc")], additional=[OPT_RECORD]),
    "another length": reply([Record(A, b"\1\2\3"), Record(A, b"\1\2\3\4\5")], additional=[OPT_RECORD]),
    "another form of name": reply(
        [Record(A, b"\1\2\3\4"), Record(A, b"\2\3\4", b"\1a\0")], additional=[OPT_RECORD]
    ),
    "a TTL that counts as 0": reply(
        [Record(A, b"\1\2\3\4"), Record(A, b"\1\2\3\4", ttl=1 << 31)], additional=[OPT_RECORD]
    ),
    "an extended rcode": reply([Record(A, b"\1\2\3\4")] * 2, additional=[OPT_RECORD._replace(ttl=1 << 24)]),
    "no OPT": reply([Record(A, b"\1\2\3\4")] * 2, additional=[Record(A, b"", b"\0")]),
    "OPT among the answers": reply([Record(A, b"\1\2\3\4"), OPT_RECORD], additional=[Record(A, b"\1\2\3\4")]),
}


@pytest.mark.parametrize("octets", ODD.values(), ids=ODD.keys())
def test_what_does_not_fit(octets: bytes) -> None:
    known = shape(PLAIN)
    assert known is not None
    assert len(octets) == len(PLAIN)
    assert not fits(known, octets)


@pytest.mark.parametrize(
    "octets",
    [
        reply([Record(A, b"\1\2\3\4")], additional=[OPT_RECORD, Record(A, b"\1\2\3\4")]),
        reply([Record(A, b"\1\2\3\4")], additional=[OPT_RECORD, OPT_RECORD]),
        reply([Record(A, b"\1\2\3\4")], additional=[OPT_RECORD._replace(ttl=1 << 24)]),
        reply([Record(A, b"\1\2\3\4", ttl=1 << 31)]),
        reply(authority=[Record(SOA, b"\0\0")]),
        reply([Record(A, b"\1\2\3\4")], flags=0x8380),
        reply(flags=0x8182),
    ],
    ids=["behind OPT", "two OPTs", "extended rcode", "TTL", "short SOA", "TC", "SERVFAIL"],
)
def test_what_has_no_shape(octets: bytes) -> None:
    assert shape(octets) is None


@pytest.mark.parametrize(
    ("octets", "seconds"),
    [
        (reply([Record(CNAME, b"\1b\xc0\x10", ttl=50), Record(A, b"\1\2\3\4", b"\xc0\x20", 70)]), 50),
        (reply([Record(CNAME, b"\1b\xc0\x10")]), 0),
        (reply(authority=[Record(SOA, SOA_DATA, b"\xc0\x10", 90)]), 60),
        (reply(authority=[Record(SOA, SOA_DATA, b"\xc0\x10", 40)], flags=0x8183), 40),
        (reply([Record(CNAME, b"\1b\xc0\x10", ttl=50)], [Record(SOA, SOA_DATA)], [OPT_RECORD]), 50),
        (reply(flags=0x8183), 0),
        (reply([Record(A, b"\1\2\3\4", ttl=90_000)]), 86_400),
        (reply([Record(A, b"\1\2\3\4")], kind=ANY), 300),
    ],
    ids=["chain", "chain to nowhere", "no data", "no name", "chain to no data", "no SOA", "long", "any"],
)
def test_for_how_long_it_may_be_kept(octets: bytes, seconds: int) -> None:
    known = shape(octets)
    assert known is not None
    assert known.read(rest(octets)).lifetime == seconds


def test_a_shape_is_made_of_what_comes_again() -> None:
    """Not of what comes once; in place of one that does not fit, once in a while."""
    learnt, form = Shapes(), (b"", b"", 0)
    begin = len(PLAIN) - len(rest(PLAIN))

    def learn(octets: bytes) -> Shape | int | None:
        learnt.learn(form, octets, begin, upstreamed.read(octets, asked(octets)))
        return learnt.known[form]

    other = ODD["another type"]
    assert not isinstance(learn(PLAIN), Shape)
    first = learn(PLAIN)
    assert isinstance(first, Shape)
    assert all(learn(other) is first for _ in range(shapes.AFTER_ODD - 1))
    assert not isinstance(learn(other), Shape)
    second = learn(other)
    assert isinstance(second, Shape)
    assert second.wanted != first.wanted


def test_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "SHAPES_MOST", 10)
    learnt, read = Shapes(), upstreamed.read(PLAIN, asked(PLAIN))
    for size in range(100):
        learnt.learn((b"", b"", size), PLAIN, len(PLAIN) - len(rest(PLAIN)), read)
    assert len(learnt.known) <= 10


def test_what_cannot_be_read_does_not_fit() -> None:
    """A record that says it is longer than what is left."""
    known = shape(PLAIN)
    assert known is not None
    at = len(PLAIN) - len(OPT_RECORD.octets) - 6
    broken = bytearray(PLAIN)
    broken[at : at + 2] = b"\1\0"
    with pytest.raises(MalformedError):
        upstreamed.read(bytes(broken), asked(PLAIN))
    assert not fits(known, bytes(broken))
