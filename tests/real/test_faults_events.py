"""Events that come out of order, doubled, or not at all: the answers are the engine's all the same."""

from __future__ import annotations

from contextlib import ExitStack
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.chaos.truth import of_engine
from tests.real.events_proxy import EventsProxy, doubled, missing, no_more, shuffled
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.real.conftest import Containers
    from tests.real.engine import Engine
    from tests.real.server import Server

pytestmark = pytest.mark.docker

#: Seconds, the least that can be configured: by then an event that never came is made up for.
RESYNC = 5
SEED = 4


def differences(must: dict[str, set[str]], server: Server) -> list[str]:
    found = []
    for name, addresses in must.items():
        reply = server.dig(name)
        if reply.addresses != addresses or reply.status != "NOERROR":
            found.append(f"{name}: {reply.status} {reply.addresses}, the truth is {addresses}")
    return found


def test_events_out_of_order_doubled_and_missing(
    engine: Engine,
    containers: Containers,
    discoverd: Callable[..., Server],
    unique: Callable[[str], str],
    tmp_path: Path,
) -> None:
    service, network = unique("web"), unique("net")
    containers.network(network)
    labelled = ("--label", f"discoverd.service={service}", "--stop-timeout", "1")
    a, b = (containers.run(unique("c"), *labelled) for _ in range(2))
    with ExitStack() as stack:

        def through(proxy: EventsProxy) -> Server:
            stack.callback(proxy.close)
            config = f'[[docker]]\nurl = "{proxy.url}"\nresync_seconds = {RESYNC}\n'
            server = discoverd(config=config, env={"DISCOVERD_DOCKER": ""})
            server.wait_source("live")
            return server

        proxies = {
            spoil.__name__: EventsProxy(tmp_path / spoil.__name__, engine.url, spoil(Random(SEED)))
            for spoil in (shuffled, doubled, missing, no_more)
        }
        servers = {name: through(proxy) for name, proxy in proxies.items()}

        c, d, e = (containers.run(unique("c"), *labelled, "--network", network) for _ in range(3))
        engine.docker("network", "connect", network, a)
        engine.docker("network", "disconnect", network, c)
        engine.docker("restart", a)
        engine.docker("pause", b)
        engine.docker("kill", "--signal", "HUP", d)
        engine.docker("rename", d, unique("renamed"))
        engine.docker("stop", e)
        engine.docker("rm", "--force", c)
        engine.docker("start", e)

        must, _ = of_engine(engine.inspect(a, b, d, e))
        for name, server in servers.items():
            # by events at once, else when all containers are listed next
            until(
                lambda server=server: not differences(must, server),  # type: ignore[misc]
                timeout=RESYNC * 6,
                message=lambda name=name, server=server: f"{name}: {differences(must, server)}",  # type: ignore[misc]
            )
            assert not server.dig(f"{c[:12]}.docker").answer, "it was removed"
            assert server.source()["state"] == "live"
        counts = {name: (proxy.events, proxy.passed) for name, proxy in proxies.items()}
    assert all(events > 15 for events, _ in counts.values()), counts
    assert counts["no_more"][1] == 0 < counts["missing"][1] < counts["missing"][0], counts
    assert counts["shuffled"][1] > 15 < counts["doubled"][0] < counts["doubled"][1], counts
