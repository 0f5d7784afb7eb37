"""What is made from a question's octets is what the handler makes of the message."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NoReturn

import dns.flags
import dns.rcode
import pytest

from discoverd.dns import message, mmsg, wire
from discoverd.dns.anew import Anew
from discoverd.dns.handler import Handler
from discoverd.model import Health, SourceState, State
from discoverd.registry import Registry
from discoverd.resolver.local import Local, Settings
from discoverd.resolver.outcome import Answer, NoData
from discoverd.views import Views
from tests.dns.serving import instance, query, records

if TYPE_CHECKING:
    from discoverd.dns.handler import Reply
    from tests.dns.serving import Serving

OWN = ip_address("192.0.2.53")
TYPES = ("A", "AAAA", "TXT", "SRV", "ANY", "HTTPS", "NS")
#: Of the registry, and some that only look so; the last two are one label with a dot and a backslash inside.
NAMES = (
    *("web", "six", "down", "draining", "sick", "gone", "nobody", "ns", "all.web", "web.shop"),
    *("_http._tcp.web", "sub", "*", "wild", "below.wild", "_x", "1.web.shop", r"web\.shop", "web\\\\"),
)


@pytest.fixture
def local() -> Local:
    registry = Registry()
    local = Local(registry, Settings(domains=("docker", "sub.docker")))
    writer = registry.writer("test", "test")
    writer.status(SourceState.LIVE)
    told = [
        *(instance("web", f"192.0.2.{i}", scope="shop", replica=i, ports=(80,)) for i in (1, 2, 3)),
        instance("web", "192.0.2.4", meta=(("path", "/"),), ttl=2),
        instance("six", "2001:db8::6"),
        instance("down", "192.0.2.5", state=State.STOPPED),
        instance("draining", "192.0.2.6", state=State.DRAINING),
        instance("sick", "192.0.2.7", health=Health.UNHEALTHY),
        instance("sub", "192.0.2.8"),
        instance("wild", "192.0.2.9", extra_names=("*.wild",)),
    ]
    gone = instance("gone", "192.0.2.10")
    writer.replace({each.id: [each] for each in (*told, gone)})
    writer.replace({each.id: [each] for each in told})
    return local


@pytest.mark.parametrize("domain", ["docker", "sub.docker", "other", ""])
def test_it_is_what_the_handler_makes(local: Local, domain: str) -> None:
    anew, made = Anew(local), 0
    view = Views(local.registry, frozenset).of(ip_address("127.0.0.1"), None)
    for name in NAMES:
        for rtype in TYPES:
            packet = query(f"{name}.{domain}" if domain else name, rtype).to_wire()
            asked = message.parse(packet)
            found = anew.prepare(asked.key, view)
            if found is None:
                continue
            made += 1
            outcome = local.resolve(asked.question, view, OWN)
            assert isinstance(outcome, Answer | NoData)
            wanted = wire.prepare(outcome, asked.key)
            for each in ("rcode", "answers", "authority", "extra", "depends", "rotations"):
                assert getattr(found, each) == getattr(wanted, each), (name, rtype, each)
    assert (made >= 18) == ("docker" in domain), "all plain names, for the three types that are asked for"


def test_it_goes_by_the_settings_of_now(local: Local) -> None:
    anew = Anew(local)
    view = Views(local.registry, frozenset).of(ip_address("127.0.0.1"), None)
    here, there = (message.parse(query(f"web.{each}").to_wire()).key for each in ("docker", "else.where"))
    assert anew.prepare(here, view)
    assert not anew.prepare(there, view)
    local.settings = Settings(domains=("else.where",))
    assert not anew.prepare(here, view)
    assert anew.prepare(there, view)


@pytest.mark.skipif(not mmsg.available(), reason="this machine has no recvmmsg")
async def test_it_is_counted_and_timed_as_what_takes_the_resolver(server: Serving) -> None:
    for number in range(20):
        server.publish(instance("web", f"192.0.2.{number}"))
        await server.ask(query("web.docker"))
        await server.ask(query("web.docker"))
    (serving,) = server.app.servers
    counts, timed = serving.counts(), server.app.handler.observer.read().durations
    assert (counts.fast, counts.slow) == (20, 20)
    assert [sum(timed[path][0]) for path in ("fast", "slow")] == [20, 20]


@pytest.mark.skipif(not mmsg.available(), reason="this machine has no recvmmsg")
async def test_a_service_that_changes_is_not_left_to_the_handler(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it is about a type that is seldom asked for."""
    handle, asked = Handler.handle, list[bytes]()

    def count(self: Handler, packet: bytes, *more: Any, **named: Any) -> Reply:
        asked.append(packet)
        return handle(self, packet, *more, **named)

    await server.ask(query("web.docker"))
    monkeypatch.setattr(Handler, "handle", count)
    for number in range(5):
        server.publish(instance("web", f"192.0.2.{number}"))
        for rtype in ("A", "AAAA", "TXT"):
            reply = await server.ask(query("web.docker", rtype))
            assert records(reply, "A") == ([f"192.0.2.{number}"] if rtype == "A" else [])
    assert not asked
    await server.ask(query("web.docker", "SRV"))
    assert len(asked) == 1


@pytest.mark.skipif(not mmsg.available(), reason="this machine has no recvmmsg")
async def test_what_no_ring_fits_goes_round_all_the_same(server: Serving) -> None:
    """More than a datagram holds, each record of another size: cut in another place each time."""
    server.publish(*(instance("web", f"192.0.2.{i}", meta=(("key", "x" * 5 * i),)) for i in range(1, 41)))
    replies = [await server.ask(query("web.docker", "TXT", use_edns=0)) for _ in range(40)]
    assert all(reply.flags & dns.flags.TC for reply in replies)
    assert len({records(reply, "TXT")[0] for reply in replies}) == len(replies)


@pytest.mark.skipif(not mmsg.available(), reason="this machine has no recvmmsg")
@pytest.mark.parametrize("where", [(Local, "resolve"), (wire, "pack")], ids=["resolver", "packing"])
async def test_a_fault_of_ours_is_the_handlers_to_tell(
    server: Serving,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: tuple[object, str],
) -> None:
    def fail(*_: object) -> NoReturn:
        raise RuntimeError("a fault of ours")

    await server.ask(query("web.docker"))
    monkeypatch.setattr(*where, fail)
    server.publish(instance("web", "192.0.2.1"))
    assert (await server.ask(query("web.docker"))).rcode() == dns.rcode.SERVFAIL
    assert "a fault of ours" in caplog.text
