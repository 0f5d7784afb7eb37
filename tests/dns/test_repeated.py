"""Denials that are kept: for who asks again, never beyond a change, and not for what is asked once."""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING

import dns.message
import dns.rcode
import pytest

from discoverd.dns import denial, mmsg, repeated
from discoverd.dns.store import Store
from discoverd.model import SourceState
from tests.dns.serving import COOKIE, instance, option, options, query, records, serving
from tests.dns.test_levels import PLAIN, WEB, Client, clients

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dns.serving import Serving

__all__ = ["clients"]  # a fixture

pytestmark = pytest.mark.skipif(not mmsg.available(), reason="this machine has no recvmmsg")

NAMES = ("one.docker", "another-one.docker", "three.docker")
FORMS = [query(name) for name in NAMES] + [query(NAMES[0], use_edns=0), query(NAMES[1], "AAAA")]
#: Batches of some different queries, after which each was looked at twice and more.
ENOUGH = 20 * repeated.EVERY


def serial(reply: dns.message.Message) -> int:
    return int(reply.authority[0][0].serial)


async def repeat(server: Serving, client: Client, *queries: dns.message.Message) -> list[dns.message.Message]:
    """Ask again and again, in batches of changing sizes; the replies to the last of them."""
    asked = cycle(queries)
    for size in range(ENOUGH):
        replies = await client.use(server).ask(*islice(asked, len(queries) + size % 5))
        assert {each.rcode() for each in replies} == {dns.rcode.NXDOMAIN}
    return await client.ask(*queries)


async def test_what_is_asked_again_is_kept_with_its_own_question(
    tmp_path: Path, clients: list[Client]
) -> None:
    async with serving(tmp_path) as server:
        server.publish(instance("web", *WEB))
        fastpath = server.app.handler.fastpath
        replies = await repeat(server, clients[0], *FORMS)
        assert len(fastpath.repeated) == len(FORMS)
        for asked, reply in zip(FORMS, replies, strict=True):
            assert reply.question == asked.question
            assert (reply.edns >= 0) == (asked.edns >= 0)
            assert serial(reply) == server.app.registry.serial
            assert reply.authority[0].name.to_text() == "docker."
        fast = sum(fastpath.hits.counts)
        await clients[0].ask(*FORMS * 3)
        assert sum(fastpath.hits.counts) - fast == 3 * len(FORMS), "each is counted"


@pytest.mark.parametrize("name", ["www.example.org", "n" * 42, "no-body.sub", "sub.nobody", "single"])
async def test_any_name_below_a_domain(tmp_path: Path, clients: list[Client], name: str) -> None:
    """Of several labels, of a length that looks like a letter, and below one of two domains in each other."""
    async with serving(tmp_path, domain=["docker", "sub.docker"]) as server:
        server.publish(instance("web", *WEB))
        asked = query(f"{name}.docker")
        for _ in range(4):
            (reply,) = await repeat(server, clients[0], asked)
            domain = "sub.docker." if name == "no-body.sub" else "docker."
            assert reply.authority[0].name.to_text() == domain
        assert len(server.app.handler.fastpath.repeated) == 1


async def test_a_flood_of_names_that_repeat_keeps_each_once(
    tmp_path: Path, clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the whole of each batch is denied, and nothing kept is looked at before."""
    kept, keep = list[bytes](), Store.keep_whole

    def count(self: Store, key: bytes, reply: bytes, number: int) -> bytes:
        kept.append(key)
        return keep(self, key, reply, number)

    monkeypatch.setattr(Store, "keep_whole", count)
    flood = [query(f"n{number}.docker") for number in range(40)]
    async with serving(tmp_path) as server:
        server.publish(instance("web", *WEB))
        for _ in range(60):
            replies = await clients[0].use(server).ask(*flood)
            assert {each.rcode() for each in replies} == {dns.rcode.NXDOMAIN}
        assert len(kept) == len(set(kept)) == len(server.app.handler.fastpath.repeated)
        assert kept


async def test_views_that_are_gone_are_let_go_of(tmp_path: Path, clients: list[Client]) -> None:
    """However often all is forgotten without anything having changed."""
    async with serving(tmp_path) as server:
        server.publish(instance("web", *WEB))
        fastpath = server.app.handler.fastpath
        for _ in range(denial.SINGLE_MOST + 1):
            fastpath.clear()
            await clients[0].use(server).ask(FORMS[0])
        await repeat(server, clients[0], FORMS[0])
        assert len(fastpath.repeated) == 1


async def test_none_outlives_a_change(tmp_path: Path, clients: list[Client]) -> None:
    """Neither where the name comes to be nor where another does: the serial is a new one."""
    async with serving(tmp_path) as server:
        client = clients[0]
        for number in range(3):
            server.publish(instance("web", *WEB))
            before = [serial(each) for each in await repeat(server, client, *FORMS)]
            server.publish(instance(f"other-{number}", *WEB))
            after = await client.ask(*FORMS)
            assert [serial(each) for each in after] == [server.app.registry.serial] * len(FORMS)
            assert after[0].rcode() == dns.rcode.NXDOMAIN
            assert min(map(serial, after)) > max(before)
        await repeat(server, client, *FORMS)
        server.publish(instance("one", *WEB))
        one, *others = await client.ask(*FORMS)
        assert sorted(records(one, "A")) == WEB
        assert [each.rcode() for each in others[:2]] == [dns.rcode.NXDOMAIN] * 2


async def test_none_outlives_the_source_that_could_say(tmp_path: Path, clients: list[Client]) -> None:
    """Where a source has yet to say what there is, nothing is denied."""
    async with serving(tmp_path) as server:
        server.publish(instance("web", *WEB))
        await repeat(server, clients[0], *FORMS)
        server.app.registry.writer("late", "test").status(SourceState.SYNCING)
        assert {each.rcode() for each in await clients[0].ask(*FORMS)} == {dns.rcode.SERVFAIL}


async def test_none_outlives_the_serial_of_another_process(tmp_path: Path, clients: list[Client]) -> None:
    async with serving(tmp_path) as server:
        await repeat(server, clients[0], *FORMS)
        server.app.registry.go_by(server.app.registry.serial + 7)
        found = [serial(each) for each in await clients[0].ask(*FORMS)]
        assert found == [server.app.registry.serial] * len(FORMS)


async def test_a_wildcard_ends_what_it_covers(tmp_path: Path, clients: list[Client]) -> None:
    async with serving(tmp_path) as server:
        await repeat(server, clients[0], *FORMS)
        server.publish(instance("web", *WEB, extra_names=("*",)))
        assert sorted(records((await clients[0].ask(*FORMS))[0], "A")) == WEB


async def test_a_flood_of_names_that_are_asked_once_is_kept_out(
    tmp_path: Path, clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And there is a bound on what is known of it."""
    monkeypatch.setattr(repeated, "MOST", 100)
    async with serving(tmp_path) as server:
        server.publish(instance("web", *WEB))
        client = clients[0].use(server)
        for turn in range(20):
            flood = [query(f"n{turn}-{number}.docker") for number in range(60)]
            *denied, web = await client.ask(*flood, PLAIN)
            assert {each.rcode() for each in denied} == {dns.rcode.NXDOMAIN}
            assert sorted(records(web, "A")) == WEB
        assert not len(server.app.handler.fastpath.repeated)


async def test_there_is_a_bound(
    tmp_path: Path, clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond it all go, while a batch may be answered from them."""
    monkeypatch.setattr(repeated, "MOST", 10)
    async with serving(tmp_path) as server:
        server.publish(instance("web", *WEB))
        client = clients[0].use(server)
        for name in [f"n{number}.docker" for number in range(15)] * 2:
            asked = query(name)
            for _ in range(ENOUGH):
                replies = await client.ask(asked, PLAIN, asked, asked)
                assert [each.question for each in replies] == [
                    each.question for each in (asked, PLAIN, asked, asked)
                ]
            assert 0 < len(server.app.handler.fastpath.repeated) <= 10


async def test_each_gets_the_cookie_of_its_own(tmp_path: Path, clients: list[Client]) -> None:
    """What ends in a cookie is no query that comes again."""
    cookies = [bytes((number,)) * 8 for number in range(1, 4)]
    asked = [query(NAMES[0], options=[option(COOKIE, each)]) for each in cookies]
    async with serving(tmp_path) as server:
        server.publish(instance("web", *WEB))
        for reply, cookie in zip(await repeat(server, clients[0], *asked), cookies, strict=True):
            assert options(reply)[COOKIE][:8] == cookie
        assert not len(server.app.handler.fastpath.repeated)
