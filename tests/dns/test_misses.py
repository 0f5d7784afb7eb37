"""Plain misses, which are carried as octets until something out of the ordinary happens to them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import dns.flags
import dns.message
import dns.rcode
import pytest

from discoverd import datagrams
from discoverd.dns import upstreamed
from discoverd.dns.misses import Misses
from discoverd.resolver.elsewhere import is_elsewhere
from discoverd.resolver.upstreams import udp
from tests.dns.serving import COOKIE, instance, option, options, query, records, serving
from tests.upstream import answer, denial, scripted
from tests.wait import until_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from discoverd.dns.upstreamed import Upstreamed
    from tests.dns.serving import Serving


def asking(name: str, rtype: str = "A", **edns: Any) -> dns.message.Message:
    made = query(name, rtype, **edns)
    made.flags |= dns.flags.RD
    return made


async def known(server: Serving) -> None:
    """From now on names right below example.com are known to be somebody else's."""
    await server.ask(asking("first.example.com"))
    await server.ask(asking("first.example.com", want_dnssec=True))
    await server.ask(asking("first.example.com", options=[option(COOKIE, b"12345678")]))
    assert b"\7example\3com\0" in server.app.forwarding.elsewhere


def watch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many questions were taken at a time."""
    taken: list[int] = []
    take = Misses.take

    def counted(self: Misses, *arguments: object) -> set[int]:
        found = take(self, *arguments)  # type: ignore[arg-type]
        taken.append(len(found))
        return found

    monkeypatch.setattr(Misses, "take", counted)
    return taken


async def test_they_are_asked_as_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Letter case, DO, AD and CD, cookies of our own, and what is kept of the reply."""
    taken = watch(monkeypatch)
    async with scripted() as upstream, serving(tmp_path, upstream=[upstream.where]) as server:
        await known(server)
        plain, checking = asking("One.Example.com"), asking("two.example.com")
        checking.flags |= dns.flags.CD
        variants = (
            plain,
            checking,
            asking("three.example.com", want_dnssec=True),
            asking("four.example.com", options=[option(COOKIE, b"12345678")]),
        )
        for variant in variants:
            reply = await server.ask(variant)
            assert records(reply, "A") == ["198.51.0.1"]
            assert reply.flags & dns.flags.RA
        assert COOKIE in options(reply)
        assert sum(taken) == 4
        asked = [dns.message.from_wire(data) for data, _ in upstream.seen[-4:]]
        assert [bool(a.flags & dns.flags.CD) for a in asked] == [False, True, False, False]
        assert [bool(a.ednsflags & dns.flags.DO) for a in asked] == [False, False, True, False]
        assert all(COOKIE not in options(a) for a in asked)
        before = len(upstream.seen)
        assert records(await server.ask(plain), "A") == ["198.51.0.1"]
        assert len(upstream.seen) == before, "it is kept"
        (who,) = server.app.forwarding.forwarder.known.values()
        assert who.answered == who.sent == before
        counts = server.app.handler.observer.read().answers
        assert counts["udp", 1, 0, "host"] == 8


async def test_what_happens_to_them_is_seen_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error, a reply that is cut off or cannot be read, and forgeries before the right one."""
    taken = watch(monkeypatch)

    def odd(packet: bytes) -> list[bytes]:
        name = str(dns.message.from_wire(packet).question[0].name)
        if name.startswith("cut"):
            return [answer(packet, truncated=True)]
        if name.startswith("fails"):
            return [answer(packet, rcode=2)]
        if name.startswith("broken"):
            return [answer(packet)[:-3]]
        other = answer(dns.message.make_query("evil.example", "A").to_wire())
        return [
            packet[:2] + other[2:],
            bytes((packet[0] ^ 1,)) + answer(packet, first=66)[1:],
            answer(packet),
        ]

    async with scripted() as upstream, serving(tmp_path, upstream=[upstream.where]) as server:
        await known(server)
        upstream.udp = odd
        assert len(records(await server.ask(asking("cut.example.com", payload=1232)), "A")) == 50
        for name in ("fails", "broken"):
            assert (await server.ask(asking(f"{name}.example.com"))).rcode() == dns.rcode.SERVFAIL
        assert records(await server.ask(asking("forged.example.com")), "A") == ["198.51.0.1"]
        assert sum(taken) >= 3
        assert not server.app.forwarding.forwarder.under_way


@pytest.mark.parametrize("kept", [0, 1000], ids=["nothing kept", "kept"])
async def test_replies_that_are_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """Once two were read the next are known by their shape; askers get the same, and the same is kept."""
    read, whole = [0], upstreamed.read

    def counted(octets: bytes, asked: bytes) -> Upstreamed:
        read[0] += 1
        return whole(octets, asked)

    monkeypatch.setattr(upstreamed, "read", counted)
    async with scripted() as upstream, serving(tmp_path, upstream=[upstream.where]) as server:
        server.app.forwarding.cache.bound(kept, 1 << 20)
        await known(server)
        for payload in (4096, 1232):  # these OPT records are known from now on
            await server.ask(asking("first.example.com", payload=payload))

        async def reads(made: Callable[[bytes], bytes], **edns: Any) -> list[int]:
            """How many replies are read for each of three askers, who get what they should."""
            upstream.udp = lambda packet: [made(packet)]
            counts = []
            for number in range(3):
                read[0], asked = 0, asking(f"N{number}-{len(upstream.seen)}.Example.com", **edns)
                got = await server.ask(asked)
                counts.append(read[0])
                theirs = dns.message.from_wire(made(asked.to_wire()))
                wanted, cut = set(records(theirs, "A")), bool(got.flags & dns.flags.TC)
                assert (got.rcode(), got.edns) == (theirs.rcode(), asked.edns)
                assert (set(records(got, "A")) < wanted) if cut else (set(records(got, "A")) == wanted)
                assert cut or got.authority == theirs.authority
                key = asked.to_wire()[12 : 12 + len(asked.question[0].name.to_wire() or b"") + 4].lower()
                entry = server.app.forwarding.cache.peek(key + b"\0")
                value, same = entry and entry.value, whole(made(asked.to_wire()), key)
                assert bool(value) == bool(kept)
                if value:
                    assert (value.flags, value.counts) == (same.flags, same.counts)
                    assert (value.ttls, value.lifetime) == (same.ttls, same.lifetime)
            return counts

        assert await reads(lambda packet: answer(packet, records=3)) == [1, 1, 0]
        assert await reads(lambda packet: answer(packet, records=3, first=9, ttl=60), payload=4096) == [
            0,
            0,
            0,
        ]
        assert await reads(lambda packet: answer(packet, records=50)) == [1, 1, 0]
        assert await reads(lambda packet: answer(packet, records=50), payload=1232) == [0, 0, 0]
        assert await reads(denial) == [1, 1, 0]
        assert await reads(lambda packet: denial(packet, minimum=5)) == [0, 0, 0]
        assert await reads(lambda packet: denial(packet, nxdomain=False)) == [1, 1, 0]
        assert server.app.handler.observer.read().answers["udp", 1, 3, "host"] == 6


async def test_many_at_once_leave_by_several_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is asked once, under an id of its own, and no port is used more often than it may be."""
    taken = watch(monkeypatch)
    monkeypatch.setattr(udp, "USES", 3)
    async with scripted() as upstream, serving(tmp_path, upstream=[upstream.where]) as server:
        await known(server)
        before = len(upstream.seen)
        names = [f"n{number}.example.com" for number in range(40)]
        replies = await asyncio.gather(*[server.ask(asking(name)) for name in names])
        assert all(records(reply, "A") == ["198.51.0.1"] for reply in replies)
        assert max(taken) > 3
        assert sorted(upstream.names[before:]) == sorted(names)
        ports = Counter(port for _, port in upstream.seen)
        assert max(ports.values()) <= 3
        assert not server.app.forwarding.forwarder.under_way


async def test_batches_in_which_some_are_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And such in which none is."""
    async with scripted() as upstream, serving(tmp_path, upstream=[upstream.where]) as server:
        server.publish(instance("db", "192.0.2.7"))
        await known(server)
        for ours in (0, 5):
            names = [f"n{number}-{ours}.example.com" for number in range(10)] + ["db.docker"] * ours
            replies = await asyncio.gather(*[server.ask(asking(name)) for name in names])
            found = [records(reply, "A") for reply in replies]
            assert found == [["198.51.0.1"]] * 10 + [["192.0.2.7"]] * ours
    assert "Exception" not in caplog.text, "as nobody waits for what is called on a readable socket"


async def test_many_at_once_of_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The kernel says that nobody is there, and it is not waited for."""
    async with scripted() as upstream, serving(tmp_path, upstream=[upstream.where]) as server:
        await known(server)
        upstream.transport.close()
        await until_async(
            lambda: upstream.transport.get_extra_info("socket").fileno() < 0, message="it is closed"
        )
        replies = await asyncio.gather(*[server.ask(asking(f"n{n}.example.com")) for n in range(20)])
        assert {reply.rcode() for reply in replies} == {dns.rcode.SERVFAIL}
        assert "Connection refused" in caplog.text
        assert "no answer" not in caplog.text
        assert not server.app.forwarding.forwarder.under_way


async def test_where_the_machine_has_no_such_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagrams, "best", datagrams.OneByOne)
    async with scripted() as upstream, serving(tmp_path, upstream=[upstream.where]) as server:
        await known(server)
        names = [f"n{number}.example.com" for number in range(10)]
        replies = await asyncio.gather(*[server.ask(asking(name)) for name in names])
        assert all(records(reply, "A") == ["198.51.0.1"] for reply in replies)


async def test_the_same_asked_meanwhile_waits_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = watch(monkeypatch)
    async with scripted() as upstream, serving(tmp_path, upstream=[upstream.where]) as server:
        await known(server)
        held: list[bytes] = []

        def hold(packet: bytes) -> list[bytes]:
            held.append(packet)
            return []

        upstream.udp = hold

        async def answer_once() -> None:
            await until_async(lambda: sum(taken) == 3, message="all three are taken")
            upstream.transport.sendto(answer(held[0]), ("127.0.0.1", upstream.seen[-1][1]))

        several = [server.ask(asking("same.example.com")) for _ in range(3)]
        _, replies = await asyncio.gather(answer_once(), asyncio.gather(*several))
        for reply in replies:
            assert records(reply, "A") == ["198.51.0.1"]
        assert len(held) == 1


async def test_one_that_stays_without_a_reply_is_asked_again(tmp_path: Path) -> None:
    async with scripted() as upstream, serving(tmp_path, upstream=[upstream.where]) as server:
        await known(server)
        held: list[bytes] = []

        def second(packet: bytes) -> list[bytes]:
            held.append(packet)
            return [answer(packet)] if len(held) == 2 else []

        upstream.udp = second
        assert records(await server.ask(asking("lost.example.com")), "A") == ["198.51.0.1"]
        assert held[0][2:] == held[1][2:]


async def test_a_name_that_becomes_ours_is_not_asked_any_more(tmp_path: Path) -> None:
    async with scripted() as upstream, serving(tmp_path, upstream=[upstream.where]) as server:
        await server.ask(asking("one.shop"))
        assert b"\4shop\0" in server.app.forwarding.elsewhere
        server.publish(instance("db", "192.0.2.7", scope="shop"))
        assert not server.app.forwarding.elsewhere
        reply = await server.ask(asking("db.shop"))
        assert records(reply, "A") == ["192.0.2.7"]
        await server.ask(asking("one.shop", "AAAA"))
        assert b"\4shop\0" not in server.app.forwarding.elsewhere
        assert "db.shop" not in upstream.names


async def test_domains_that_something_of_ours_may_be_in(tmp_path: Path) -> None:
    async with serving(tmp_path, domain=["own.example"]) as server:
        server.publish(instance("db", "192.0.2.7", scope="shop"))
        local = server.app.answering.local
        for domain in (
            "own.example",
            "x.own.example",
            "example",
            "shop",
            "db.shop",
            "a.db.shop",
            "1.10.in-addr.arpa",
        ):
            assert not is_elsewhere(local, domain), domain
        for domain in ("com", "example.com", "notown.example", "shops"):
            assert is_elsewhere(local, domain), domain
