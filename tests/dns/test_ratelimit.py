"""Replies to addresses that may be forged: how many, and what earns more."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import dns.flags
import pytest

from discoverd.dns.cookies import Cookies
from discoverd.dns.ratelimit import NETWORKS_MOST, RateLimit
from tests.dns.serving import COOKIE, instance, option, options, query, records, serving

if TYPE_CHECKING:
    from pathlib import Path

ASKED = query("web.docker").to_wire()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def made(rate: int = 10) -> tuple[RateLimit, Clock]:
    clock = Clock()
    return RateLimit(rate, [ip_network("10.0.0.0/8"), ip_network("fd00::/8")], Cookies(), clock), clock


def allowed(limit: RateLimit, asker: str, count: int) -> int:
    return sum(limit.allows(ASKED, asker) is True for _ in range(count))


def test_a_network_gets_so_many_a_second() -> None:
    limit, clock = made()
    assert allowed(limit, "198.51.100.1", 15) == 10
    assert allowed(limit, "198.51.100.77", 5) == 0, "its neighbour shares the bound"
    assert allowed(limit, "198.51.101.1", 15) == 10
    assert allowed(limit, "2001:db8::1", 15) == 10
    assert allowed(limit, "2001:db8:0:ff::1", 15) == 0
    clock.now += 0.5
    assert allowed(limit, "198.51.100.1", 15) == 5
    clock.now += 3600
    assert allowed(limit, "198.51.100.1", 15) == 10


@pytest.mark.parametrize("asker", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::5"])
def test_addresses_that_nobody_can_forge_are_not_counted(asker: str) -> None:
    limit, _ = made()
    assert allowed(limit, asker, 100) == 100


def test_beyond_it_no_reply_is_larger_than_its_question() -> None:
    limit, _ = made(1)
    answers = [limit.allows(ASKED, "198.51.100.1") for _ in range(21)]
    assert answers.pop(0) is True
    empty = [a for a in answers if a]
    assert len(empty) == 10
    for each in empty:
        assert isinstance(each, bytes)
        assert len(each) <= len(ASKED)
        assert each[2] & 2
    for odd in (b"\0" * 12, ASKED[:-3], ASKED[:12]):
        assert not any(limit.allows(odd, "198.51.100.1") for _ in range(6))
    assert limit.dropped == 10 + 18
    assert limit.truncated == 10


def test_what_is_remembered_is_bounded() -> None:
    limit, _ = made()
    for number in range(NETWORKS_MOST + 100):
        limit.allows(ASKED, f"{50 + number // 65536}.{number // 256 % 256}.{number % 256}.1")
    assert len(limit._left) == NETWORKS_MOST


async def test_a_cookie_or_tcp_earns_all_of_it(tmp_path: Path) -> None:
    """As seen by an asker; every address counts as one that may be forged."""
    text = "[dns]\nrate_limit = 4\nrate_limit_exempt = []\n"
    async with serving(tmp_path, text) as server:
        server.publish(instance("web", "192.0.2.1"))
        limit = server.app.handler.rate_limit
        assert limit is not None
        limit._clock = Clock()  # time stands still
        first = await server.ask(query("web.docker", options=[option(COOKIE, b"12345678")]))
        cookie = option(COOKIE, options(first)[COOKIE])
        asked = query("web.docker")
        for _ in range(3):
            assert records(await server.ask(asked), "A") == ["192.0.2.1"]
        limit._beyond = 1  # the first beyond is the one that is cut
        reply = await server.ask(asked)
        assert reply.flags & dns.flags.TC
        assert not reply.answer
        for _ in range(10):
            assert (await server.ask(query("web.docker", options=[cookie]))).answer
            assert (await server.ask(query("web.docker"), tcp=True)).answer
        forged = option(COOKIE, options(first)[COOKIE][:-1] + b"x")
        limit._beyond = 1
        assert (await server.ask(query("web.docker", options=[forged]))).flags & dns.flags.TC
        tally = server.app.forwarding.tally()
    assert tally["truncated", ""] == 2
