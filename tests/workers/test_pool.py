"""Workers of a pool that is composed by hand: what they have to ask the main process for."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import dns.asyncquery
import dns.message
import dns.rcode

from discoverd.answering import Answering, Choices
from discoverd.catalog import Endpoint, Fetched, Lookup, Node
from discoverd.config.models import LogConfig
from discoverd.dns.cookies import Cookies
from discoverd.dns.server import bind_all
from discoverd.resolver.outcome import Fail
from discoverd.workers.pool import Pool
from tests.wait import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import pytest

    from discoverd.dns.server import DnsServer

    Ask = Callable[[str], Awaitable[dns.message.Message]]

#: Two workers, and so many questions that both are asked.
WORKERS, QUESTIONS = 2, 32
SECRET = b"a secret of the tests"


def endpoint(address: str) -> Endpoint:
    return Endpoint(Node("n1", address, "dc1"), "e1", "geo")


@asynccontextmanager
async def pool(answering: Answering) -> AsyncIterator[tuple[Pool, list[DnsServer], Ask]]:
    """Workers that answer, the main process's servers beside them, what asks from a new port each time."""
    listeners = bind_all("127.0.0.1", 0, WORKERS)
    servers = [answering.server([listener]) for listener in listeners]
    for server in servers:
        await server.start()
    places = [([listener], server) for listener, server in zip(listeners, servers, strict=True)]

    async def look_up(lookup: Lookup) -> Fetched | Fail:
        if lookup.name == "geo":
            return Fetched("dc1", (endpoint("10.0.0.7"),))
        return Fail(f"no agent can be asked about {lookup.name}")

    made = Pool(answering, places, secret=SECRET, log_config=LogConfig(), look_up=look_up)

    async def ask(name: str) -> dns.message.Message:
        query = dns.message.make_query(name, "A")
        return await dns.asyncquery.udp(query, "127.0.0.1", timeout=10, port=listeners[0].port)

    async with asyncio.TaskGroup() as group:
        running = group.create_task(made.run(), name="workers")
        try:
            await until_async(lambda: made.tally()[0] == WORKERS, timeout=60)
            yield made, servers, ask
        finally:
            await made.stop(10)
            running.cancel()
            for server in servers:
                await server.stop_accepting()
                await server.stop()


async def never(_lookup: Lookup) -> Fetched | Fail:
    raise AssertionError("the main process answers nothing here")


async def test_what_only_the_agent_knows_is_asked_of_the_main_process() -> None:
    answering = Answering(Choices(consul=True), Cookies(SECRET), never)
    catalog = answering.catalog
    catalog.home, catalog.datacenters = "dc1", frozenset({"dc1"})
    catalog.follow("dc1")
    catalog.set_service("dc1", "web", (endpoint("10.0.0.1"),))
    catalog.in_step("dc1")
    async with pool(answering) as (_, servers, ask):
        before = [server.counts() for server in servers]
        for _ in range(QUESTIONS):
            assert addresses(await ask("geo.query.consul")) == {"10.0.0.7"}
            assert addresses(await ask("web.service.consul")) == {"10.0.0.1"}
            assert (await ask("other.query.consul")).rcode() == dns.rcode.SERVFAIL
        catalog.set_service("dc1", "web", (endpoint("10.0.0.2"),))
        for _ in range(QUESTIONS):
            async with asyncio.timeout(30):
                while addresses(await ask("web.service.consul")) != {"10.0.0.2"}:
                    pass  # the one that was asked just now has not heard of it
        assert [server.counts() for server in servers] == before, "the workers answered"


async def test_a_worker_that_does_not_end_in_time_is_killed() -> None:
    answering = Answering(Choices(), Cookies(SECRET), never)
    async with pool(answering) as (made, _, _):
        for worker in made.status():
            os.kill(worker["pid"], signal.SIGSTOP)
        await made.stop(0.1)
        await until_async(lambda: not made.links)
    assert made.tally() == (0, 0), "they were to end, nobody replaced them"


async def test_one_that_cannot_be_started_is_tried_again_and_answered_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answering = Answering(Choices(), Cookies(SECRET), never)
    async with pool(answering) as (made, servers, ask):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/nowhere/python")
            for worker in made.status():
                os.kill(worker["pid"], signal.SIGKILL)
            await until_async(lambda: made.tally()[1] > 2 * WORKERS)
            for _ in range(QUESTIONS):
                assert (await ask("nobody.docker")).rcode() == dns.rcode.NXDOMAIN
        assert sum(server.counts().fast + server.counts().slow for server in servers) >= QUESTIONS
        assert "cannot be started: No such file or directory" in caplog.text
        await until_async(lambda: made.tally()[0] == WORKERS, timeout=60)


def addresses(reply: dns.message.Message) -> set[str]:
    return {str(r) for rrset in reply.answer for r in rrset}
