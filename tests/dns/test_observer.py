"""Every answer is counted once, by type, rcode, protocol and view, whichever way it came about."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import dns.message
import dns.rcode
import pytest

from discoverd.dns import mmsg
from discoverd.dns.observer import BOUNDS, FAST, SLOW, Observed, kind_of
from tests.dns.serving import COOKIE, instance, option, query, serving
from tests.wait import until_async

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dns.serving import Serving

A, AAAA, SRV, OTHER = 1, 28, 33, 0
WEB = [instance("web", f"192.0.2.{n}", ports=[80]) for n in (1, 2, 3)]


@pytest.fixture(params=["in batches", "one by one"], autouse=True)
def system_calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "one by one":
        monkeypatch.setattr(mmsg, "available", lambda: False)
    elif not mmsg.available():
        pytest.skip("this machine has no recvmmsg")


def read(server: Serving) -> Observed:
    return server.app.handler.observer.read()


async def test_every_answer_counts_once(tmp_path: Path) -> None:
    expected: Counter[tuple[str, int, int, str]] = Counter()
    async with serving(tmp_path) as server:
        server.publish(*WEB)

        async def ask(message: dns.message.Message, qtype: int, *, tcp: bool = False) -> None:
            reply = await server.ask(message, tcp=tcp)
            expected["tcp" if tcp else "udp", qtype, reply.rcode(), "host"] += 1

        for turn in range(5):
            for tcp in (False, True):
                for _ in range(4):  # by the resolver, from its parts, ready made
                    await ask(query("web.docker"), A, tcp=tcp)
                await ask(query("Web.Docker"), A, tcp=tcp)
                await ask(query("web.docker", payload=1400), A, tcp=tcp)
                await ask(query("web.docker", options=[option(COOKIE, bytes(7) + bytes([turn]))]), A, tcp=tcp)
                await ask(query("web.docker", "AAAA"), AAAA, tcp=tcp)
                await ask(query("_80._tcp.web.docker", "SRV"), SRV, tcp=tcp)
                await ask(query(f"nothing{turn}.docker"), A, tcp=tcp)
                await ask(query("nothing.docker", "TYPE65280"), OTHER, tcp=tcp)
                await ask(query("example.com", "AAAA"), AAAA, tcp=tcp)
                await ask(query("web.docker", use_edns=1), A, tcp=tcp)
            # what was kept is dropped, what was counted is not
            server.publish(*WEB[: 1 + turn % 3])
        await server.octets(b"\0\1\0\0\0\1\0\0\0\0\0\0")
        expected["udp", OTHER, 1, "host"] += 1
        assert await server.silent(b"\0\1\x80\0\0\1\0\0\0\0\0\0", b"short")
        expected["udp", A, 3, "host"] += 1
        seen = read(server)
    assert seen.answers == expected
    assert {rcode for _, _, rcode, _ in seen.answers} == {0, 1, 3, 5, 16}
    assert seen.no_query == 2


async def test_views_are_told_apart(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        server.publish(*WEB)
        fastpath = server.app.answering.fastpath
        from discoverd.views import ELSEWHERE

        store = fastpath.store(ELSEWHERE, may_recurse=False)
        handler, packet = server.app.handler, query("web.docker").to_wire()
        handler.handle(packet, store)
        assert fastpath.reply(store, packet, "192.0.2.9")
        await server.ask(query("web.docker"))
        assert read(server).answers == {("udp", A, 0, "elsewhere"): 1, ("udp", A, 0, "host"): 1}


async def test_how_long_it_took_is_known_by_path(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        server.publish(*WEB)
        for _ in range(10):
            await server.ask(query("web.docker"))
        fast = 9 if mmsg.available() else 0

        def timed() -> bool:  # a batch is timed after its replies have left
            durations = read(server).durations
            return sum(durations[FAST][0]) == fast and sum(durations[SLOW][0]) == 1

        await until_async(timed, message=lambda: str(read(server).durations))
        for path, count in ((FAST, fast), (SLOW, 1)):
            buckets, total = read(server).durations[path]
            assert len(buckets) == len(BOUNDS) + 1
            assert (total > 0) == (count > 0)


def test_several_processes_add_up() -> None:
    one = Observed({("udp", A, 0, "host"): 1}, {FAST: ((1, 2), 7)}, 1)
    two = Observed(
        {("udp", A, 0, "host"): 2, ("tcp", A, 0, "host"): 5}, {FAST: ((1, 1), 3), SLOW: ((1, 0), 9)}, 2
    )
    both = {("udp", A, 0, "host"): 3, ("tcp", A, 0, "host"): 5}
    assert one + two == Observed(both, {FAST: ((2, 3), 10), SLOW: ((1, 0), 9)}, 3)
    assert Observed() + one == one


def test_upper_bits_of_an_rcode_are_read() -> None:
    reply = dns.message.make_response(dns.message.make_query("web.docker", "SRV", use_edns=0))
    for rcode in (0, 3, 16, 23):
        reply.set_rcode(dns.rcode.Rcode(rcode))
        assert kind_of(reply.to_wire()) == (SRV, rcode)
