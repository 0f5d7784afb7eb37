"""Asking name servers on loopback: who is asked, which replies are believed, when it is given up."""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dns.flags
import dns.message
import pytest

from discoverd.resolver import forward
from discoverd.resolver.forward import Forwarder, Upstream
from discoverd.resolver.upstreams import pending, server, stream, udp
from discoverd.resolver.upstreams.inbox import Inbox
from discoverd.resolver.upstreams.query import Asked
from tests.upstream import Scripted, answer, scripted, silence
from tests.wait import until_async

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoverd.resolver.upstreams.pending import Pending

RD = 0x0100


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little patience with servers that are silent."""
    monkeypatch.setattr(server, "PATIENCE_LEAST", 0.05)
    monkeypatch.setattr(server, "PATIENCE_MOST", 0.05)
    monkeypatch.setattr(pending, "ALL_SECONDS", 0.4)
    monkeypatch.setattr(forward, "SWEEP_SECONDS", 0.01)


@contextmanager
def asking(
    *servers: Scripted | Upstream, zones: dict[str, list[Upstream]] | None = None
) -> Iterator[Forwarder]:
    upstreams = [s if isinstance(s, Upstream) else Upstream("127.0.0.1", s.port) for s in servers]
    made = Forwarder(upstreams, zones or {})
    try:
        yield made
    finally:
        made.close()


def begin(forwarder: Forwarder, name: str = "example.com", flags: int = RD) -> asyncio.Future[bytes]:
    """The reply that is to come; RuntimeError with why there is none."""
    question = dns.message.make_query(name, "A").to_wire()[12:]
    done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    class Asking:
        def read(self, reply: bytes, pending: Pending) -> bytes:
            return reply

        def impatient(self, pending: Pending) -> None:
            raise AssertionError

        def settled(self, pending: Pending, read: Any, why: str) -> None:
            for waiter in pending.waiters:
                if read is None:
                    waiter.set_exception(RuntimeError(why))
                else:
                    waiter.set_result(read)

    key = question.lower() + flags.to_bytes(2, "big")
    asked = Asked(flags, question)
    why = forwarder.ask(key, asked, forwarder.servers(asked.name), done, Asking())
    if isinstance(why, str):
        done.set_exception(RuntimeError(why))
    return done


async def ask(forwarder: Forwarder, name: str = "example.com") -> dns.message.Message:
    async with asyncio.timeout(10):
        return dns.message.from_wire(await begin(forwarder, name))


def addresses(reply: dns.message.Message) -> list[str]:
    return [str(record) for record in reply.answer[0]]


async def test_ids_and_source_ports_cannot_be_foreseen() -> None:
    async with scripted() as upstream:
        with asking(upstream) as forwarder:
            for number in range(60):
                await ask(forwarder, f"n{number}.example.com")
    assert len({data[:2] for data, _ in upstream.seen}) > 50
    assert len({port for _, port in upstream.seen}) > 8


async def test_a_port_is_used_for_a_few_questions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "USES", 2)
    async with scripted() as upstream:
        with asking(upstream) as forwarder:
            for number in range(40):
                await ask(forwarder, f"n{number}.example.com")
            ports = [port for _, port in upstream.seen]
    assert max(ports.count(port) for port in ports) == 2


async def test_a_port_that_was_closed_in_the_same_turn_is_not_read() -> None:
    """A reply may end a question that was asked from another port as well."""
    inbox = Inbox()
    first, second = (udp.Port("127.0.0.1", 9, inbox) for _ in range(2))
    second.retire()
    second.read(defaultdict(list))
    assert not second.stray
    first.retire()


async def test_forged_replies_are_passed_over() -> None:
    def forge(packet: bytes) -> list[bytes]:
        wrong_id = bytes([packet[0] ^ 1]) + answer(packet)[1:]
        other = dns.message.make_query("evil.example", "A").to_wire()
        wrong_question = packet[:2] + answer(other)[2:]
        other_type = packet[:2] + answer(dns.message.make_query("example.com", "AAAA").to_wire())[2:]
        return [b"", b"\0" * 5, packet, wrong_id, wrong_question, other_type, answer(packet, records=2)]

    async with scripted(forge) as upstream:
        with asking(upstream) as forwarder:
            assert len(addresses(await ask(forwarder))) == 2


async def test_a_reply_from_elsewhere_is_passed_over() -> None:
    """The right id and question, from another port of the same host."""
    sent = asyncio.Event()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
        elsewhere.bind(("127.0.0.1", 0))
        async with scripted(silence) as upstream:

            def from_elsewhere(packet: bytes) -> list[bytes]:
                elsewhere.sendto(answer(packet, first=66), ("127.0.0.1", upstream.seen[-1][1]))
                sent.set()
                return [answer(packet)]

            upstream.udp = from_elsewhere
            with asking(upstream) as forwarder:
                reply = await ask(forwarder)
    assert sent.is_set()
    assert addresses(reply) == ["198.51.0.1"]


async def test_a_cut_reply_is_fetched_by_tcp_over_one_connection() -> None:
    async with scripted(lambda q: [answer(q, truncated=True)]) as upstream:
        with asking(upstream) as forwarder:
            both = [*await asyncio.gather(ask(forwarder), ask(forwarder, "other.example.com"))]
            both.append(await ask(forwarder, "third.example.com"))
        assert len(upstream.connections) == 1
    for reply in both:
        assert not reply.flags & dns.flags.TC
        assert len(addresses(reply)) == 50


async def test_a_cut_reply_is_better_than_none(hasty: None) -> None:
    async with scripted(lambda q: [answer(q, truncated=True)], silence) as upstream:
        with asking(upstream) as forwarder:
            assert (await ask(forwarder)).flags & dns.flags.TC


async def test_a_connection_that_was_closed_meanwhile_is_made_anew() -> None:
    async with scripted(lambda q: [answer(q, truncated=True)]) as upstream:
        with asking(upstream) as forwarder:
            await ask(forwarder)

            def close_first(query: bytes) -> list[bytes]:
                upstream.tcp = lambda q: [answer(q, records=7)]
                upstream.connections[0].transport.abort()
                return []

            upstream.tcp = close_first
            assert len(addresses(await ask(forwarder, "again.example.com"))) == 7
        assert len(upstream.connections) == 2


async def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "IDLE_SECONDS", 0.05)
    async with scripted(lambda q: [answer(q, truncated=True)]) as upstream:
        with asking(upstream) as forwarder:
            await ask(forwarder)
            (known,) = forwarder.known.values()
            await until_async(lambda: not known.stream.open, message="the connection is closed")


async def test_the_next_server_is_asked_when_one_is_silent(
    hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "ALL_SECONDS", 10)
    async with scripted(silence) as mute, scripted() as well:
        with asking(mute, well) as forwarder:
            assert addresses(await ask(forwarder))
        assert mute.seen


async def test_the_next_server_is_asked_when_a_port_is_closed() -> None:
    async with scripted() as well:
        with asking(closed(), well) as forwarder:
            assert addresses(await ask(forwarder))


async def test_the_next_server_is_asked_when_one_fails() -> None:
    for rcode in (1, 2, 4, 5):
        async with scripted(lambda q, rcode=rcode: [answer(q, rcode=rcode)]) as bad, scripted() as well:  # type: ignore[misc]
            with asking(bad, well) as forwarder:
                assert addresses(await ask(forwarder))
            assert bad.seen


async def test_an_error_is_passed_on_where_nobody_knows_better() -> None:
    async with (
        scripted(lambda q: [answer(q, rcode=2)]) as one,
        scripted(lambda q: [answer(q, rcode=5)]) as other,
    ):
        with asking(one, other) as forwarder:
            assert (await ask(forwarder)).rcode() == 2


async def test_nobody_answers_in_time(hasty: None) -> None:
    async with scripted(silence) as mute:
        with asking(mute) as forwarder:
            with pytest.raises(RuntimeError, match=f"no answer from {mute.where} within 0.4 s"):
                await ask(forwarder)
            assert not forwarder.in_flight
            assert not forwarder.waiting
    assert len(mute.seen) > 1, "a datagram may have been lost: it is sent again"


async def test_a_late_reply_to_the_first_try_is_taken(hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "ALL_SECONDS", 10)
    queries: list[bytes] = []

    def late(query: bytes) -> list[bytes]:
        queries.append(query)
        return [answer(queries[0])] if len(queries) == 2 else []

    async with scripted(late) as upstream:
        with asking(upstream) as forwarder:
            # each socket hears replies to what it has sent: both tries by one of them
            monkeypatch.setattr(udp, "SOCKETS", 1)
            assert addresses(await ask(forwarder))


def test_the_fastest_is_asked_and_the_others_from_time_to_time() -> None:
    forwarder = Forwarder([Upstream("192.0.2.1"), Upstream("192.0.2.2")], {})
    slow, quick = forwarder.known.values()
    asked = []
    for _ in range(1000):
        first = pending.in_order((slow, quick), Asked(RD, b""), 0.0)[0]
        first.answers(0.2 if first is slow else 0.02)
        asked.append(first)
    assert set(asked[:2]) == {slow, quick}, "who was never asked is asked first"
    assert 2 <= asked.count(slow) <= 50
    assert slow in asked[500:], "a server that has become faster is found"


async def test_a_server_that_is_down_is_asked_last_until_it_answers(
    hasty: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(pending, "ALL_SECONDS", 10)
    monkeypatch.setattr(server, "PROBE_FIRST", 0.05)
    monkeypatch.setattr(server, "PROBE_MOST", 0.1)
    monkeypatch.setattr(forward, "TICK_SECONDS", 0.02)
    async with scripted(silence) as mute, scripted() as well:
        with asking(mute, well) as forwarder:
            first, second = forwarder.known.values()
            second.answers(1.0)  # however slow the other is
            for number in range(3):
                first.rtt = 0.0
                await ask(forwarder, f"n{number}.example.com")
            assert first.down
            asked = len(mute.seen)
            await ask(forwarder, "without.example.com")
            assert "without.example.com" not in mute.names[asked:]
            mute.udp = lambda query: [answer(query)]
            await until_async(lambda: not first.down, message="it is found to be back")
    assert f"{mute.where} is down: no answer" in caplog.text
    assert f"{mute.where} answers again" in caplog.text
    assert set(mute.names[asked:]) == {""}, "nothing of what was asked is asked for that"


async def test_servers_that_do_not_know_edns_are_asked_without() -> None:
    def old(query: bytes) -> list[bytes]:
        if dns.message.from_wire(query).edns < 0:
            return [answer(query)]
        return [query[:2] + b"\x80\x01" + b"\0" * 8]  # FORMERR, a header alone

    async with scripted(old) as upstream:
        with asking(upstream) as forwarder:
            assert addresses(await ask(forwarder))
            assert addresses(await ask(forwarder, "again.example.com"))
    assert len(upstream.seen) == 3


async def test_questions_that_are_the_same_are_asked_once() -> None:
    held: list[bytes] = []

    def hold(query: bytes) -> list[bytes]:
        held.append(query)
        return []

    async with scripted(hold) as upstream:
        with asking(upstream) as forwarder:
            several = [begin(forwarder) for _ in range(5)] + [begin(forwarder, "EXAMPLE.com")]
            other = begin(forwarder, flags=RD | 0x10)
            await until_async(lambda: len(held) == 2, message="both questions are asked")
            for query, (_, port) in zip(held, upstream.seen, strict=True):
                upstream.transport.sendto(answer(query), ("127.0.0.1", port))
            await asyncio.gather(*several, other)
            assert not forwarder.waiting
    assert len(held) == 2


async def test_the_bounds_on_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "IN_FLIGHT_MOST", 2)
    monkeypatch.setattr(forward, "WAITING_MOST", 3)
    async with scripted(silence) as upstream:
        forwarder = Forwarder([Upstream("127.0.0.1", upstream.port)], {})
        waiting = [begin(forwarder), begin(forwarder, "b.example"), begin(forwarder)]
        with pytest.raises(RuntimeError, match="2 questions are under way already"):
            await begin(forwarder, "c.example")
        with pytest.raises(RuntimeError, match="3 askers wait already"):
            await begin(forwarder)
        assert forwarder.rejected == 2
        forwarder.close()
        for each in waiting:
            with pytest.raises(RuntimeError, match="stopped"):
                await each


def test_the_longest_zone_wins() -> None:
    everyone, corp, deep = Upstream("192.0.2.1"), Upstream("192.0.2.2"), Upstream("192.0.2.3")
    forwarder = Forwarder(
        [everyone], {"corp.example": [corp], "deep.corp.example": [deep], "none.example": []}
    )

    def servers(name: str) -> list[Upstream]:
        return [each.upstream for each in forwarder.servers(name)]

    assert servers("www.example") == [everyone]
    assert servers("corp.example") == [corp]
    assert servers("a.b.corp.example") == [corp]
    assert servers("x.deep.corp.example") == [deep]
    assert servers("x.none.example") == []
    assert forwarder.configured("x.corp.example")
    assert not forwarder.configured("xcorp.example")


def closed() -> Upstream:
    """A port that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        return Upstream("127.0.0.1", held.getsockname()[1])
