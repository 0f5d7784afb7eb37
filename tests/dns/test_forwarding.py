"""Other people's names from an asker's side: what is kept, what is asked, and what never is."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import dns.flags
import dns.message
import dns.rcode
import pytest

from discoverd.dns import forwarding, kept
from discoverd.resolver import cache as caching
from discoverd.resolver import forward
from discoverd.resolver.upstreams import pending
from discoverd.resolver.upstreams import server as servers
from discoverd.resolver.upstreams.query import HOPS
from tests.dns.serving import COOKIE, instance, option, query, records, serving
from tests.upstream import Scripted, answer, denial, scripted, silence
from tests.wait import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.dns.serving import Serving


class Clock:
    """The cache's time, which passes as the test says."""

    now = 5000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def forwarded(
    folder: Path, upstream: Scripted, text: str = "", **flags: Any
) -> AsyncIterator[tuple[Serving, Clock]]:
    clock = Clock()
    async with serving(folder, text, upstream=[upstream.where], **flags) as server:
        server.app.forwarding.cache.clock = clock
        yield server, clock


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little patience with servers that are silent."""
    monkeypatch.setattr(servers, "PATIENCE_LEAST", 0.05)
    monkeypatch.setattr(servers, "PATIENCE_MOST", 0.05)
    monkeypatch.setattr(pending, "ALL_SECONDS", 0.3)
    monkeypatch.setattr(forward, "SWEEP_SECONDS", 0.01)


#: What no two askers share: such questions are answered by the cache, not by the fast path.
COOKIED = [option(COOKIE, b"12345678")]


def asking(name: str = "www.example.com", rtype: str = "A", **edns: Any) -> dns.message.Message:
    made = query(name, rtype, **edns)
    made.flags |= dns.flags.RD
    return made


async def test_an_answer_is_kept_and_ages(tmp_path: Path) -> None:
    async with scripted() as upstream, forwarded(tmp_path, upstream) as (server, clock):
        first = await server.ask(asking(options=COOKIED))
        clock.now += 100
        second = await server.ask(asking("WWW.example.COM", options=COOKIED))
        clock.now += 199
        third = await server.ask(asking(options=COOKIED))
        clock.now += 1
        fourth = await server.ask(asking(options=COOKIED))
        over_tcp = await server.ask(asking(options=COOKIED), tcp=True)
    assert [r.answer[0].ttl for r in (first, second, third, fourth, over_tcp)] == [300, 200, 1, 300, 300]
    assert all(records(r, "A") == ["198.51.0.1"] for r in (first, second, third, fourth))
    assert len(upstream.seen) == 2


async def test_an_answer_is_given_on_unchanged_but_not_as_our_own(tmp_path: Path) -> None:
    def authoritative(packet: bytes) -> list[bytes]:
        reply = answer(packet)
        return [reply[:2] + bytes((reply[2] | 4, reply[3] | 0x20)) + reply[4:]]

    async with scripted(authoritative) as upstream, forwarded(tmp_path, upstream) as (server, _):
        fresh = await server.ask(asking())
        again = await server.ask(asking())
    assert fresh.flags & dns.flags.AA
    assert not again.flags & dns.flags.AA, "what is kept is nobody's own word (RFC 1035 section 4.1.1)"
    assert fresh.flags & again.flags & dns.flags.AD
    assert fresh.flags & again.flags & dns.flags.RA


@pytest.mark.parametrize("nxdomain", [True, False], ids=["nxdomain", "nodata"])
async def test_a_denial_is_kept_as_long_as_its_soa_says(tmp_path: Path, nxdomain: bool) -> None:
    """RFC 2308 section 5: the lesser of the SOA record's TTL and its minimum."""
    for ttl, minimum, seconds in ((300, 60, 60), (30, 60, 30), (999_999, 999_999, 10_800)):

        def deny(packet: bytes, minimum: int = minimum, ttl: int = ttl) -> list[bytes]:
            return [denial(packet, minimum=minimum, ttl=ttl, nxdomain=nxdomain)]

        async with scripted(deny) as upstream, forwarded(tmp_path, upstream) as (server, clock):
            for wait, asked in ((0, 1), (seconds - 1, 1), (1, 2)):
                clock.now += wait
                reply = await server.ask(asking())
                assert reply.rcode() == (dns.rcode.NXDOMAIN if nxdomain else dns.rcode.NOERROR)
                assert reply.authority
                assert len(upstream.seen) == asked


async def test_what_must_not_be_kept_is_not(tmp_path: Path) -> None:
    """TTL 0, denials without SOA (RFC 2308 section 5), errors beyond a second (RFC 9520)."""
    for reply in (
        lambda q: [answer(q, ttl=0)],
        lambda q: [dns.message.make_response(dns.message.from_wire(q)).to_wire()],
        lambda q: [answer(q, rcode=3)],
    ):
        async with scripted(reply) as upstream, forwarded(tmp_path, upstream) as (server, _):
            await server.ask(asking())
            await server.ask(asking())
            assert len(upstream.seen) == 2
    async with (
        scripted(lambda q: [answer(q, rcode=2)]) as upstream,
        forwarded(tmp_path, upstream) as (server, clock),
    ):
        for wait, asked in ((0, 1), (caching.FAILURE_SECONDS - 0.1, 1), (0.2, 2)):
            clock.now += wait
            assert (await server.ask(asking())).rcode() == dns.rcode.SERVFAIL
            assert len(upstream.seen) == asked


async def test_variants_of_a_question_are_kept_apart(tmp_path: Path) -> None:
    """DO, CD and AD make replies differ; sizes and cookies do not."""
    checking, authentic = asking(), asking()
    checking.flags |= dns.flags.CD
    authentic.flags |= dns.flags.AD
    variants = [asking(), asking(want_dnssec=True), checking, authentic]
    async with scripted() as upstream, forwarded(tmp_path, upstream) as (server, _):
        for _ in range(2):
            for variant in variants:
                await server.ask(variant)
        assert len(upstream.seen) == 4
        asked = [dns.message.from_wire(data) for data, _ in upstream.seen]
        assert [bool(a.ednsflags & dns.flags.DO) for a in asked] == [False, True, False, False]
        assert [bool(a.flags & dns.flags.CD) for a in asked] == [False, False, True, False]
        await server.ask(asking(payload=4096))
        await server.ask(asking(options=COOKIED))
        assert len(upstream.seen) == 4


async def test_a_large_answer_is_whole_over_tcp_and_cut_to_size_over_udp(tmp_path: Path) -> None:
    """Between records: musl before 1.2.4 and busybox never ask by TCP, and have those that fit."""
    async with (
        scripted(lambda q: [answer(q, truncated=True)], lambda q: [answer(q, records=60)]) as upstream,
        forwarded(tmp_path, upstream) as (server, _),
    ):
        # 33 octets for header and question, 11 for OPT, 16 for a record
        for size, count in ((0, 29), (4096, 60), (600, 34)):
            reply = await server.ask(asking(payload=size) if size else asking())
            assert bool(reply.flags & dns.flags.TC) is (count < 60)
            assert len(reply.to_wire()) <= max(512, size)
            assert len(records(reply, "A")) == count
        assert len(records(await server.ask(asking(), tcp=True), "A")) == 60
    assert len(upstream.seen) == len(upstream.streamed) == 1


async def test_repeated_questions_are_answered_by_the_fast_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "TICK_SECONDS", 3600)  # the test ticks
    async with scripted() as upstream, forwarded(tmp_path, upstream) as (server, clock):
        app = server.app
        (udp,) = app.server.udp  # type: ignore[union-attr]
        held = app.forwarding.kept
        assert held is not None
        for fast in (0, 0, 1):  # asked, kept, given
            await server.ask(asking())
            assert udp.fast == fast
        clock.now += 100
        held._tick()
        assert (await server.ask(asking())).answer[0].ttl == 199
        assert udp.fast == 2
        held._tick()
        assert len(held) == 1
        held._tick()
        assert not len(held), "what nobody asks for is let go of"
        await server.ask(asking())
        assert udp.fast == 2
        assert app.forwarding.tally()["hits", ""] == 4
    assert len(upstream.seen) == 1


async def test_a_name_that_becomes_ours_is_not_answered_from_what_is_kept(tmp_path: Path) -> None:
    async with scripted() as upstream, forwarded(tmp_path, upstream) as (server, _):
        for _ in range(4):
            assert records(await server.ask(asking("db.shop")), "A") == ["198.51.0.1"]
        server.publish(instance("db", "192.0.2.7", scope="shop"))
        for _ in range(4):
            reply = await server.ask(asking("db.shop"))
            assert records(reply, "A") == ["192.0.2.7"]
            assert reply.flags & dns.flags.AA
        server.publish()
        for _ in range(4):  # it was ours a moment ago
            assert not (await server.ask(asking("db.shop"))).answer
    assert len(upstream.seen) == 1


async def test_popular_answers_are_fetched_anew_before_they_end(tmp_path: Path) -> None:
    async with scripted() as upstream, forwarded(tmp_path, upstream) as (server, clock):
        for _ in range(4):
            await server.ask(asking(options=COOKIED))
        clock.now += 295
        assert (await server.ask(asking(options=COOKIED))).answer[0].ttl == 5
        await until_async(lambda: len(upstream.seen) == 2, message="it is asked anew")
        await until_async(lambda: not server.app.forwarding.forwarder.in_flight, message="it has come")
        assert (await server.ask(asking(options=COOKIED))).answer[0].ttl == 300
    assert len(upstream.seen) == 2


async def test_old_answers_are_given_while_nobody_answers(
    tmp_path: Path, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 8767: better old than none, for 30 s; and another look after 30 s at the earliest."""
    async with scripted() as upstream, forwarded(tmp_path, upstream) as (server, clock):
        await server.ask(asking())
        upstream.udp = silence
        clock.now += 301
        stale = await server.ask(asking())
        assert (stale.answer[0].ttl, records(stale, "A")) == (30, ["198.51.0.1"])
        asked = len(upstream.seen)
        assert (await server.ask(asking())).answer
        assert len(upstream.seen) == asked
        monkeypatch.setattr(pending, "ALL_SECONDS", 10)
        upstream.udp = lambda q: [answer(q, rcode=2)]
        clock.now += 31
        assert (await server.ask(asking())).answer[0].ttl == 30
        assert len(upstream.seen) > asked
        upstream.udp = lambda q: [answer(q, first=9)]
        clock.now += 31
        assert records(await server.ask(asking()), "A") == ["198.51.0.9"]
        assert server.app.forwarding.tally()["stale", ""] == 3


async def test_an_old_answer_is_given_in_time_where_a_fresh_one_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "STALE_AFTER_SECONDS", 0.05)
    async with scripted() as upstream, forwarded(tmp_path, upstream) as (server, clock):
        await server.ask(asking())
        upstream.udp = silence
        clock.now += 301
        assert (await server.ask(asking())).answer[0].ttl == 30
        late, port = upstream.seen[1]
        upstream.transport.sendto(answer(late, first=9), ("127.0.0.1", port))
        await until_async(lambda: not server.app.forwarding.forwarder.in_flight, message="it has come")
        assert records(await server.ask(asking()), "A") == ["198.51.0.9"], "it is kept all the same"


async def test_what_is_kept_can_be_forgotten(tmp_path: Path) -> None:
    async with scripted() as upstream, forwarded(tmp_path, upstream) as (server, _):
        for _ in range(3):
            await server.ask(asking())
            await server.ask(asking("other.example.org"))
        assert server.app.flush("EXAMPLE.com".lower()) == 1
        await server.ask(asking())
        await server.ask(asking("other.example.org"))
        assert upstream.names == ["www.example.com", "other.example.org", "www.example.com"]
        assert server.app.flush(None) == 2
        await server.ask(asking())
        assert len(upstream.seen) == 4


async def test_the_bounds_of_the_cache_are_configured(tmp_path: Path) -> None:
    async with (
        scripted() as upstream,
        forwarded(tmp_path, upstream, "[forward]\ncache_entries = 2\n") as (server, _),
    ):
        for number in range(5):
            await server.ask(asking(f"n{number}.example.com"))
        tally = server.app.forwarding.tally()
    assert tally["entries", ""] == 2
    assert tally["evicted", ""] == 3


PRIVATE = (
    "printer", "nas.local", "a.test", "x.invalid", "y.onion", "z.home.arpa", "q.internal",
    "1.0.0.10.in-addr.arpa", "1.1.168.192.in-addr.arpa", "9.9.20.172.in-addr.arpa", "1.0.64.100.in-addr.arpa",
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
    "web.docker", "nobody.docker", "gone.shop.docker",
)  # fmt: skip


async def test_private_names_never_leave(tmp_path: Path) -> None:
    async with scripted() as upstream, forwarded(tmp_path, upstream) as (server, _):
        server.publish(instance("web", "192.0.2.1"))
        for name in PRIVATE:
            for rtype in ("A", "PTR"):
                reply = await server.ask(asking(name, rtype))
                assert reply.rcode() in (dns.rcode.NXDOMAIN, dns.rcode.NOERROR), name
                assert reply.flags & dns.flags.RA
                assert reply.answer or reply.authority, f"{name}: how long there is nothing is not said"
        assert not upstream.seen
        localhost = await server.ask(asking("localhost"))
        assert records(localhost, "A") == ["127.0.0.1"]
        assert records(await server.ask(asking("any.localhost", "AAAA")), "AAAA") == ["::1"]
    assert not upstream.seen


async def test_zones_of_ones_own_go_to_their_servers_the_longest_first(tmp_path: Path) -> None:
    async with scripted() as everyone, scripted() as corp, scripted() as deep:
        text = f"""
[forward]
upstreams = ["{everyone.where}"]
[forward.zones]
"corp.example" = ["{corp.where}"]
"deep.corp.example" = ["{deep.where}"]
"none.example" = []
"10.in-addr.arpa" = ["{corp.where}"]
"lan" = ["{corp.where}"]
"""
        # what a flag says goes before the file
        async with serving(tmp_path, text, upstream=None) as server:
            for name in (
                "www.example", "corp.example", "a.b.corp.example", "x.deep.corp.example",
                "xcorp.example", "1.0.0.10.in-addr.arpa", "lan", "nas.lan",
            ):  # fmt: skip
                assert (await server.ask(asking(name))).answer
            assert (await server.ask(asking("x.none.example"))).rcode() == dns.rcode.NXDOMAIN
    assert everyone.names == ["www.example", "xcorp.example"]
    assert corp.names == ["corp.example", "a.b.corp.example", "1.0.0.10.in-addr.arpa", "lan", "nas.lan"]
    assert deep.names == ["x.deep.corp.example"]


async def test_who_may_not_is_refused_and_told_so(tmp_path: Path) -> None:
    async with (
        scripted() as upstream,
        forwarded(tmp_path, upstream, allow_recursion=["192.0.2.0/24"]) as (server, _),
    ):
        for tcp in (False, True):
            reply = await server.ask(asking(), tcp=tcp)
            assert reply.rcode() == dns.rcode.REFUSED
            assert not reply.flags & dns.flags.RA
    assert not upstream.seen


# -- loops --------------------------------------------------------------------------------------


async def test_itself_as_upstream_is_found_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, upstream=["192.0.2.1"]) as server:
        where = f"127.0.0.1:{server.port}"
        server.app.forwarding.forwarder = forward.Forwarder([forward.Upstream("127.0.0.1", server.port)], {})
        for tcp in (False, True):
            reply = await server.ask(asking(f"a{tcp:d}.example"), tcp=tcp)
            assert reply.rcode() == dns.rcode.SERVFAIL
    assert caplog.text.count(f"a loop: what is asked of {where}") == 1, "told once, however often it happens"
    assert "no answer" not in caplog.text, "it is found at once"


async def test_two_that_point_at_each_other_are_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    async with (
        serving(tmp_path / "one", upstream=["192.0.2.1"]) as one,
        serving(tmp_path / "other", upstream=[f"127.0.0.1:{one.port}"]) as other,
    ):
        one.app.forwarding.forwarder = forward.Forwarder([forward.Upstream("127.0.0.1", other.port)], {})
        reply = await one.ask(asking())
        assert reply.rcode() == dns.rcode.SERVFAIL
        assert one.app.forwarding.forwarder.loops == 1
    assert f"a loop: what is asked of 127.0.0.1:{other.port} (www.example.com) comes back here" in caplog.text
    assert "no answer" not in caplog.text, "it is found at once"


async def test_a_loop_does_not_keep_others_from_answering(tmp_path: Path) -> None:
    async with scripted() as well, serving(tmp_path, upstream=["192.0.2.1"]) as server:
        upstreams = [forward.Upstream("127.0.0.1", port) for port in (server.port, well.port)]
        server.app.forwarding.forwarder = forward.Forwarder(upstreams, {})
        assert records(await server.ask(asking()), "A") == ["198.51.0.1"]


async def test_a_loop_by_one_that_takes_marks_away_is_found_by_asking(
    tmp_path: Path, hasty: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As Unbound and systemd-resolved do: they ask anew, with an OPT record of their own."""
    monkeypatch.setattr(forward, "TICK_SECONDS", 0.02)
    async with scripted(silence) as relay, forwarded(tmp_path, relay) as (server, clock):
        waiting: set[asyncio.Task[Any]] = set()

        def pass_back(packet: bytes) -> list[bytes]:
            asked = dns.message.from_wire(packet)
            anew = dns.message.make_query(asked.question[0].name, "A", use_edns=0)

            async def relayed() -> None:
                port = relay.seen[-1][1]
                reply = await server.octets(anew.to_wire())
                relay.transport.sendto(packet[:2] + reply[2:], ("127.0.0.1", port))

            waiting.add(asyncio.get_running_loop().create_task(relayed(), name="relay"))
            return []

        relay.udp = pass_back
        assert (await server.ask(asking())).rcode() == dns.rcode.SERVFAIL
        await until_async(lambda: server.app.forwarding.forwarder.loops, message="the loop is found")
        asked = len(relay.seen)
        clock.now += 2
        assert (await server.ask(asking("mail.example.com"))).rcode() == dns.rcode.SERVFAIL
        assert len(relay.seen) == asked, "it is not asked about such names for a while"
        await asyncio.wait(waiting)
    assert f"a loop: what is asked of {relay.where} (www.example.com)" in caplog.text


async def test_a_loop_by_one_that_waits_for_us_as_we_for_it_is_found_by_asking(
    tmp_path: Path, hasty: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """systemd-resolved asks discoverd what somebody asks it. When that comes back it asks nothing, as it has
    asked already; so each waits for the other, and there is one asker only.
    """
    monkeypatch.setattr(forward, "TICK_SECONDS", 0.02)
    async with scripted(silence) as relay, forwarded(tmp_path, relay) as (server, clock):
        waiting: set[asyncio.Task[Any]] = set()

        def pass_others_back(packet: bytes) -> list[bytes]:
            name = dns.message.from_wire(packet).question[0].name
            if not str(name).startswith("www."):
                again = server.octets(dns.message.make_query(name, "A").to_wire())
                waiting.add(asyncio.get_running_loop().create_task(again, name="relay"))
            return []

        relay.udp = pass_others_back
        assert (await server.ask(asking())).rcode() == dns.rcode.SERVFAIL
        await until_async(lambda: server.app.forwarding.forwarder.loops, message="the loop is found")
        clock.now += 2
        asked = len(relay.seen)
        assert (await server.ask(asking())).rcode() == dns.rcode.SERVFAIL
        assert len(relay.seen) == asked, "it is not asked about such names for a while"
        await asyncio.wait(waiting)
    assert f"a loop: what is asked of {relay.where} (www.example.com)" in caplog.text


async def test_a_question_that_has_come_by_many_is_not_passed_on(tmp_path: Path) -> None:
    async with scripted() as upstream, forwarded(tmp_path, upstream) as (server, _):
        marks = b"".join(b"other%03d" % number for number in range(8))
        few = await server.ask(asking(options=[option(HOPS, marks[:56])]))
        assert few.answer
        passed = dns.message.from_wire(upstream.seen[0][0])
        assert bytes(passed.options[0].to_wire() or b"").startswith(marks[:56])
        assert (await server.ask(asking("b.example", options=[option(HOPS, marks)]))).rcode() == 2
        for odd in (b"", b"x", b"y" * 9, b"z" * 200):
            await server.ask(asking("c.example", options=[option(HOPS, odd)]))
