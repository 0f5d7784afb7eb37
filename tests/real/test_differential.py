"""The same zone in NSD and in discoverd: thousands of questions, and the replies agree.

What differs on purpose has a name here, and its reason under that name in docs/protocol.md.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.zone

from discoverd.model import Port
from tests.dns.serving import instance, query, serving
from tests.real.conftest import or_left_out
from tests.real.debian import REPO
from tests.real.nsd import Nsd
from tests.wait import until_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tests.dns.serving import Serving

QUESTIONS = 4000
SEED = 20
TYPES = (
    *("A", "AAAA", "SRV", "TXT") * 4,
    *("NS", "SOA", "PTR") * 2,
    *("ANY", "MX", "CNAME", "DNAME", "HTTPS", "SVCB", "CAA", "NAPTR", "HINFO", "LOC", "TLSA", "SPF"),
    *("DS", "DNSKEY", "RRSIG", "NSEC", "NSEC3PARAM", "MAILA", "MAILB", "TYPE128", "TYPE1000", "TYPE65535"),
    *("OPT", "TSIG", "TKEY"),
)
EDNS: tuple[dict[str, Any], ...] = (
    {},
    {"use_edns": 0},
    {"use_edns": 0, "want_dnssec": True},
    *({"use_edns": 0, "payload": size} for size in (0, 512, 1232, 4096, 65535)),
    {"use_edns": 1},
)
#: Header flags in a query: RD, AD, CD, the reserved one, RA, AA, TC, many.
FLAGS = (0, 0, 0, 0x100, 0x100, 0x20, 0x10, 0x40, 0x80, 0x400, 0x200, 0x7B0)
#: The names whose labels stand for any in the zone under test.
WILD, DEEP = "wild.docker", "deep.down.docker"


class Records(NamedTuple):
    """The sections of a reply as sets, names in lower case."""

    answer: frozenset[tuple[str, int, str, str]]
    authority: frozenset[tuple[str, int, str, str]]
    additional: frozenset[tuple[str, int, str, str]]


def sections(reply: dns.message.Message) -> Records:
    return Records(*(frozenset(_flat(s)) for s in (reply.answer, reply.authority, reply.additional)))


def _flat(section: Iterable[Any]) -> Iterator[tuple[str, int, str, str]]:
    for rrset in section:
        for record in rrset:
            kind = dns.rdatatype.to_text(rrset.rdtype)
            yield rrset.name.to_text().lower(), rrset.ttl, kind, record.to_text().lower()


def publish(server: Serving) -> None:
    """Services of every kind: scopes, replicas, tags, both families, ports by name, wildcards, large sets."""
    web: dict[str, Any] = {"scope": "shop", "ports": (80, 8080), "tags": ("v1",), "meta": (("a", "b"),)}
    front, published = Port(53, "udp", name="front"), Port(5353, published=99)
    server.publish(
        *(instance("web", f"192.0.2.{i}", replica=i, **web) for i in (1, 2, 3)),
        instance("six", "2001:db8::6", ports=(443,)),
        instance("both", "192.0.2.7", "2001:db8::7", ports=(front, published), ttl=0, weight=7),
        instance("portless", "192.0.2.8", own_names=("container_1",), hostname="host-1"),
        instance(
            "wild", "192.0.2.9", ports=(80,), extra_names=("*.wild", "*.deep.down", "under.wild", "x.y.z")
        ),
        instance("wild", "192.0.2.10", meta=(("k", "v"),), extra_names=("*.deep.down",)),
        *(instance("many", f"10.1.0.{i}", ports=(80,)) for i in range(60)),
    )


def questions(zone: dns.zone.Zone, count: int) -> Iterator[tuple[dns.message.Message, bool]]:
    """Queries, and whether each goes by TCP: for names of the zone, between, below and beside them."""
    pick = random.Random(SEED)
    names = (name.to_text(omit_final_dot=True) for name in zone)
    known = sorted({between for name in names for between in _up_to_the_apex(name)})
    prefixes = ("x", "nobody", "_http", "_tcp", "*", "a.b", "_9._tcp", "all", "web")

    def name() -> str:
        kind = pick.random()
        base = pick.choice(known) if kind < 0.97 else "many.docker"
        if kind < 0.45:
            return base
        if kind < 0.6:
            return f"{pick.choice(prefixes)}.{base}"
        if kind < 0.7:
            return f"{pick.choice(prefixes)}.{pick.choice((WILD, DEEP, f'under.{WILD}', 'down.docker'))}"
        if kind < 0.8:
            return "".join(pick.choices("abcdefgh-_0", k=pick.randint(1, 5))) + ".docker"
        if kind < 0.85:
            return pick.choice(("example.com", "docker.com", "com", "dockers", "."))
        return "".join(pick.choice((c.lower(), c.upper())) for c in base)

    for _ in range(count):
        asked = query(name(), pick.choice(TYPES), **pick.choice(EDNS))
        asked.flags |= pick.choice(FLAGS)
        asked.id = pick.randrange(65536)
        yield asked, pick.random() < 0.2


def _up_to_the_apex(name: str) -> Iterator[str]:
    """A name and those above it: most of them are empty non-terminals."""
    while name:
        yield name
        name = name.partition(".")[2]


def differences(
    asked: dns.message.Message, ours: dns.message.Message, theirs: dns.message.Message
) -> Iterator[str]:
    """What is not the same in two replies: by its name in docs/protocol.md, or what it is."""
    kind = dns.rdatatype.to_text(asked.question[0].rdtype)
    name = asked.question[0].name.to_text(omit_final_dot=True).lower()
    if ours.question != theirs.question:
        yield f"question {ours.question} {theirs.question}"
    if (ours.edns, ours.ednsflags, ours.payload) != (theirs.edns, theirs.ednsflags, theirs.payload):
        yield f"OPT {ours.edns, ours.ednsflags, ours.payload} {theirs.edns, theirs.ednsflags, theirs.payload}"
    if asked.edns == 1:
        if ours.rcode() != theirs.rcode() or sections(ours) != sections(theirs):
            yield "the reply to another EDNS version"
        if ours.flags != theirs.flags:
            assert ours.flags & ~0xF == dns.flags.QR | asked.flags & dns.flags.RD
            yield "badvers-flags"
        return
    if kind in ("OPT", "TSIG", "TKEY"):
        if ours.rcode() == dns.rcode.FORMERR:
            yield "meta-types"
        else:
            yield f"{kind} is {dns.rcode.to_text(ours.rcode())}"
        return
    if ours.rcode() != theirs.rcode():
        named = _wildcard_difference(name)
        yield named or f"rcode {dns.rcode.to_text(ours.rcode())} {dns.rcode.to_text(theirs.rcode())}"
        return
    yield from _section_differences(kind, name, ours, theirs)


def _section_differences(
    kind: str, name: str, ours: dns.message.Message, theirs: dns.message.Message
) -> Iterator[str]:
    own, other = sections(ours), sections(theirs)
    if kind == "ANY" and own != other and ours.rcode() == dns.rcode.NOERROR:
        yield "any" if {r[2] for r in own.answer} == {"HINFO"} else f"ANY {own}"
        return
    if ours.flags != theirs.flags:
        yield f"flags {dns.flags.to_text(ours.flags)} | {dns.flags.to_text(theirs.flags)}"
    if ours.flags & dns.flags.TC:
        if own != other:
            yield "truncation"
        return
    if own.answer != other.answer:
        yield _wildcard_difference(name) or f"answer {own.answer ^ other.answer}"
    authority, glue = other.authority - own.authority, other.additional - own.additional
    if own.authority - other.authority or {r[2] for r in authority} - {"NS"}:
        yield f"authority {own.authority ^ other.authority}"
    elif authority:
        yield "ns-in-authority"
    if own.additional - other.additional or (glue and not authority) or {r[0] for r in glue} - {"ns.docker."}:
        yield f"additional {own.additional ^ other.additional}"


def _wildcard_difference(name: str) -> str | None:
    """Names by port, which discoverd makes of others where in a zone the wildcard itself stands."""
    made = re.search(rf"(?:^|\.)(?:_tcp|_udp)\..*(?:{re.escape(WILD)}|{re.escape(DEEP)})$", f".{name}")
    return "made-below-wildcards" if made else None


async def test_replies_agree_with_those_of_nsd(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with serving(tmp_path) as server:
        publish(server)
        with or_left_out():
            nsd = Nsd(tmp_path / "nsd", server.port, "docker")
        try:
            await until_async(lambda: "received update" in nsd.log, message=lambda: nsd.log)
            zone = dns.zone.Zone("docker", relativize=False)
            await dns.asyncquery.inbound_xfr(server.host, zone, port=server.port, timeout=30)
            found: Counter[str] = Counter()
            for asked, tcp in questions(zone, QUESTIONS):
                exchange = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
                ours = await server.ask(asked, tcp=tcp)
                theirs = await exchange(asked, "127.0.0.1", port=nsd.port, timeout=5)
                for difference in differences(asked, ours, theirs):
                    assert difference in documented(), (
                        f"{difference}\nasked:\n{asked}\nours:\n{ours}\ntheirs:\n{theirs}"
                    )
                    found[difference] += 1
        finally:
            nsd.close()
    assert set(found) == documented(), "each difference that is documented is there"
    record_property(
        "measured replies compared with NSD's", f"{QUESTIONS}, deliberate differences {dict(found)}"
    )


def documented() -> set[str]:
    """The names in the table of differences of docs/protocol.md."""
    text = (REPO / "docs" / "protocol.md").read_text(encoding="utf-8")
    table = text.partition("## Where NSD answers differently")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE))
