"""The fast path by itself: what it keeps, for how long, and that it says what the handler says."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import dns.flags
import dns.message
import dns.rcode
import pytest

from discoverd.dns import fastpath, message, mmsg, remembered
from discoverd.dns.cookies import Cookies
from discoverd.dns.denial import Denial
from discoverd.dns.handler import Handler
from discoverd.dns.store import folded
from discoverd.model import SourceState
from discoverd.registry import Registry
from discoverd.resolver.local import Local, Settings
from discoverd.views import Views
from tests.dns.serving import COOKIE, instance, option, options, query, records

if TYPE_CHECKING:
    from discoverd.dns.store import Store

ASKER, OTHER = "192.0.2.100", "192.0.2.101"
NOW = 1_700_000_000


class Served:
    """A handler over a registry, asked as a batch asks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOW
        monkeypatch.setattr("time.time", lambda: float(self.now))
        self.registry = Registry()
        local = Local(self.registry, Settings(domains=("docker", "deep.example")))
        cookies = Cookies(b"a secret of the tests")
        self.fast = fastpath.Fastpath(1232, denial=Denial(local), cookies=cookies.answers)
        views = Views(self.registry, frozenset)
        self.handler = Handler(local, views, self.fast, version="0", cookies=cookies)
        self.registry.subscribe(lambda change: self.fast.drop(change.names))
        self.writer = self.registry.writer("test", "test")
        self.writer.status(SourceState.LIVE)
        self.publish("web", "192.0.2.1", "192.0.2.2", "192.0.2.3")

    def publish(self, name: str, *ips: str) -> None:
        self.writer.publish(name, [instance(name, ip) for ip in ips])

    def store(self, asker: str = ASKER) -> Store:
        return self.fast.askers.get(asker) or self.handler.place(asker, None)

    def slowly(self, packet: bytes, asker: str = ASKER) -> dns.message.Message:
        reply = self.handler.handle(packet, self.store(asker), None, asker)
        assert isinstance(reply, bytes)
        return dns.message.from_wire(reply)

    def quickly(self, *packets: bytes, asker: str = ASKER) -> list[dns.message.Message | None]:
        placed = [(self.store(asker), asker)] * len(packets)
        replies = self.fast.vary([packet[2:] for packet in packets], placed)
        return [
            None if reply is None else dns.message.from_wire(packet[:2] + reply)
            for packet, reply in zip(packets, replies, strict=True)
        ]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served(monkeypatch)


def with_cookie(data: bytes, name: str = "web.docker") -> bytes:
    return query(name, options=[option(COOKIE, data)]).to_wire()


def cookie_in(reply: dns.message.Message | None) -> bytes:
    assert reply is not None
    return options(reply)[COOKIE]


def test_each_of_many_cookies_gets_its_own(served: Served) -> None:
    """More of them than are remembered, each more than once, from two askers."""
    served.slowly(with_cookie(bytes(8)))  # teaches the question and the OPT record
    chance = random.Random(1)
    cookies = [chance.randbytes(8) for _ in range(3 * remembered.EVERY)]
    given: dict[tuple[bytes, str], set[bytes]] = {}
    for _ in range(40):
        chance.shuffle(cookies)
        for asker in (ASKER, OTHER):
            for sent, reply in zip(
                cookies, served.quickly(*map(with_cookie, cookies), asker=asker), strict=True
            ):
                cookie = cookie_in(reply)
                assert cookie[:8] == sent
                given.setdefault((sent, asker), set()).add(cookie)
    assert all(len(different) == 1 for different in given.values())
    assert len({cookie for (cookie,) in given.values()}) == 2 * len(cookies)


def test_a_remembered_cookie_is_renewed_in_time(served: Served) -> None:
    served.slowly(with_cookie(bytes(8)))
    served.slowly(with_cookie(bytes(24)))
    asked = with_cookie(b"8 octets")
    first = {cookie_in(r) for r in served.quickly(*[asked] * (2 * remembered.EVERY))}
    served.now += remembered.SECONDS
    (renewed,) = {cookie_in(r) for r in served.quickly(*[asked] * (2 * remembered.EVERY))}
    assert first != {renewed}
    assert int.from_bytes(renewed[12:16], "big") == served.now
    # one that comes back stays as it is for half an hour, however often it is remembered
    (again,) = {cookie_in(r) for r in served.quickly(*[with_cookie(renewed)] * 40)}
    assert again == renewed
    served.now += 1800
    (later,) = {cookie_in(r) for r in served.quickly(*[with_cookie(renewed)] * 40)}
    assert later[:8] == renewed[:8]
    assert int.from_bytes(later[12:16], "big") == served.now


def test_any_octet_may_stand_before_the_end_of_a_cookie(served: Served) -> None:
    """A cookie of ours that was made in a certain second looks there as a shorter one does."""
    served.slowly(with_cookie(bytes(8)))
    served.slowly(with_cookie(bytes(24)))
    for second in range(256):
        served.now = NOW - NOW % 256 + second
        ours = cookie_in(served.quickly(with_cookie(b"8 octets"))[0])
        assert cookie_in(served.quickly(with_cookie(ours))[0]) == ours


def test_cookies_are_remembered_up_to_a_bound(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST", 10)
    served.slowly(with_cookie(bytes(8)))
    for number in range(100 * remembered.EVERY):
        served.quickly(with_cookie(number.to_bytes(8, "big")))
        assert len(served.fast.cookies) <= 10


def test_a_denial_has_the_serial_of_the_last_change(served: Served) -> None:
    unknown = [query(f"{label}.docker").to_wire() for label in ("nobody", "no-body")]
    for number in range(3):
        for packet in unknown * 2:
            (reply,) = served.quickly(packet)
            assert reply is not None
            assert reply.rcode() == dns.rcode.NXDOMAIN
            assert reply.authority == served.slowly(packet).authority
            assert reply.authority[0][0].serial == served.registry.serial
        served.publish("web", f"192.0.2.{number}")


@pytest.mark.parametrize("name", ["new.docker", "two.new.docker", "new.deep.example", "*.docker"])
def test_what_comes_to_be_is_no_longer_denied(served: Served, name: str) -> None:
    """At, above or below the denied name, or as a wildcard that covers it; and what is gone a moment ago."""
    asked = query(name.replace("*", "new")).to_wire()
    (before,) = served.quickly(asked)
    assert before is not None
    assert before.rcode() == dns.rcode.NXDOMAIN
    relative = name.removesuffix(".docker").removesuffix(".deep.example")
    served.writer.publish("n", [instance("other", "192.0.2.9", extra_names=(relative,))])
    assert served.quickly(asked) == [None]
    assert served.slowly(asked).rcode() == dns.rcode.NOERROR
    served.writer.publish("n", [])
    gone = served.slowly(asked).rcode()
    assert all(reply is None or reply.rcode() == gone for reply in served.quickly(asked))
    assert gone == (dns.rcode.NXDOMAIN if "*" in name else dns.rcode.NOERROR)


@pytest.mark.parametrize(
    "name",
    ["ns.docker", "_http._tcp.docker", "all.web.docker", "docker", "web.docker", r"a\.b.docker", "_x.docker"],
)
def test_what_may_be_something_is_not_denied(served: Served, name: str) -> None:
    served.quickly(query("nobody.docker").to_wire())  # teaches how names of one label are denied
    assert served.quickly(query(name).to_wire()) == [None]


def test_names_of_two_domains_are_denied_each_by_its_own(served: Served) -> None:
    for domain in ("docker", "deep.example") * 2:
        (reply,) = served.quickly(query(f"nobody.{domain}").to_wire())
        assert reply is not None
        assert str(reply.authority[0].name) == f"{domain}."


def test_large_sets_rotate_through_all_of_their_instances(served: Served) -> None:
    """More than are built beforehand, in any letter case, with and without EDNS, truncated alike."""
    ips = {f"10.0.{n // 250}.{n % 250}" for n in range(100)}
    served.publish("many", *sorted(ips))
    served.slowly(query("many.docker", payload=1232).to_wire())
    first = set()
    for number in range(100):
        name = "MANY.docker" if number % 2 else "many.docker"
        (reply,) = served.quickly(query(name, payload=1232).to_wire())
        assert reply is not None
        assert reply.flags & dns.flags.TC
        first.add(records(reply, "A")[0])
    assert first == ips


def test_what_rests_on_two_names_is_dropped_with_either_and_kept_once(served: Served) -> None:
    asked = query("all.web.docker").to_wire()
    for number in range(50):
        served.slowly(asked)
        (reply,) = served.quickly(asked)
        assert reply is not None
        served.publish("web", f"192.0.2.{number}")
        assert records(served.slowly(asked), "A") == [f"192.0.2.{number}"]
    held = served.fast._dependents.values()
    assert all(len(each) <= 2 for each in held)


@pytest.mark.parametrize("rtype", ["A", "HTTPS", "TYPE97", "LOC"])
def test_replies_are_counted_by_their_type(served: Served, rtype: str) -> None:
    """HTTPS is 65, which is a letter, and 97 the same one in lower case."""
    asked, unknown = (query(f"{name}.docker", rtype).to_wire() for name in ("WEB", "nobody"))
    served.slowly(asked)
    served.quickly(*[asked] * 5, *[unknown] * 3)
    counted = {"A": 1, "HTTPS": 65, "TYPE97": 65, "LOC": 0}[rtype]
    kept = {} if rtype == "LOC" else {(counted, 0, "elsewhere"): (5, 0)}
    assert served.fast.hits.read() == {**kept, (counted, 3, "elsewhere"): (3, 0)}


def test_exact_queries_go_with_their_question(served: Served) -> None:
    store = served.store()
    for rtype in ("A", "AAAA", "TXT"):
        for edns in (-1, 0):
            packet = query("web.docker", rtype, use_edns=edns).to_wire()
            served.slowly(packet)
            served.quickly(packet)
    assert len(store.exact) == 6
    served.publish("web", "192.0.2.77")
    assert not store.exact
    assert not store.rings
    assert not store.prepared


@pytest.mark.parametrize(
    ("name", "rtype", "size"),
    [
        ("web.docker", "A", 0x0570),
        ("web.docker", "TYPE97", 1232),
        ("web.docker", "HTTPS", 1232),
        ("l" * 61 + ".docker", "A", 1232),
    ],
    ids=["a size like letters", "a type like a letter", "a type like another", "a length like a letter"],
)
def test_letters_outside_of_the_name_are_not_folded(name: str, rtype: str, size: int) -> None:
    """In lower case 0x0550 becomes 0x0570, type 65 type 97, and 65 octets 97."""
    packet = query(name, rtype, use_edns=0, payload=size).to_wire()[2:]
    question = packet[10 : -message.OPT_SIZE]
    assert folded(packet, question.lower()) is None
    plain = query("WEB.docker", "A", use_edns=0, payload=1232).to_wire()[2:]
    assert folded(plain, plain[10 : -message.OPT_SIZE]) == mmsg.key(plain.lower())
