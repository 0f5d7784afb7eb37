"""discoverd, composed from its own parts, with a registry that a benchmark fills and changes.

    python -m bench.churn_server --listen HOST:PORT --services N --instances K [--views N] [--uncounted]

What a configuration file cannot say: a source that changes one instance's address a thousand times a
second (SIGUSR1 sets that going, SIGUSR2 stops it), container networks whose askers each see addresses
of their own, or a hundred thousand services. Server, registry and resolver are the shipped ones.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import time
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from bench.catalog import ASKERS, CHANGES_A_SECOND, TTL, Catalog
from discoverd import eventloop
from discoverd.app import App
from discoverd.config import load
from discoverd.dns import observed
from discoverd.dns.batched import BatchedEndpoint
from discoverd.dns.hits import Hits
from discoverd.model import Address, Instance, Membership, Network, Port, SourceState
from discoverd.supervise import spawn

if TYPE_CHECKING:
    from discoverd.registry import Writer


class Source:
    """Publishes the catalog, and changes it again and again while it is told to."""

    def __init__(self, sink: Writer, catalog: Catalog, views: int) -> None:
        self._sink, self._catalog, self._views = sink, catalog, views
        self.changing = asyncio.Event()
        self.changes, self.spent = 0, 0  # how many, and their CPU time in nanoseconds
        self._current = {name: self._instances(name, addresses) for name, addresses in catalog.each()}
        #: What each becomes when it is changed next: made beforehand, it is no part of what a change costs.
        self._next = {name: self._moved(instances) for name, instances in self._current.items()}

    def _instances(self, name: str, addresses: list[str]) -> list[Instance]:
        return [
            Instance(
                id=f"{name}/{k}",
                service=name,
                source="bench",
                addresses=(Address(ip_address(address)), *self._inside(address)),
                ports=(Port(80),),
                ttl=TTL,
                unique=f"{name}-{k}",
                memberships=tuple(Membership(f"net{v}", f"id{v}") for v in range(self._views)),
            )
            for k, address in enumerate(addresses)
        ]

    @staticmethod
    def _moved(instances: list[Instance]) -> list[Instance]:
        """The same with the first of them at another address."""
        first, *others = instances
        moved = Address(ip_address(int(first.addresses[0].ip) ^ 1 << 23))
        return [replace(first, addresses=(moved, *first.addresses[1:])), *others]

    def _inside(self, address: str) -> list[Address]:
        """The same endpoint's address on each network."""
        last = address.split(".", 1)[1]
        return [Address(ip_address(f"{100 + v}.{last}"), f"net{v}", f"id{v}") for v in range(self._views)]

    def publish(self) -> None:
        subnets = [(f"net{v}", f"id{v}", ip_network(ASKERS.format(v, 0) + "/24")) for v in range(self._views)]
        self._sink.networks(Network(key, name, (subnet,)) for name, key, subnet in subnets)
        self._sink.replace(self._current)
        self._sink.status(SourceState.LIVE)

    async def change(self) -> None:
        """Give one instance after another a new address, at an even pace, for as long as that is wanted."""
        loop, names = asyncio.get_running_loop(), list(self._current)
        while True:
            await self.changing.wait()
            begun, done = loop.time(), 0
            while self.changing.is_set():
                due = int((loop.time() - begun) * CHANGES_A_SECOND)
                for _ in range(min(due - done, CHANGES_A_SECOND)):
                    self._change_one(random.choice(names))
                done = due
                await asyncio.sleep(1 / CHANGES_A_SECOND)

    def _change_one(self, name: str) -> None:
        self._current[name], self._next[name] = self._next[name], self._current[name]
        begun = time.thread_time_ns()
        self._sink.publish(name, self._current[name])
        self.spent += time.thread_time_ns() - begun
        self.changes += 1

    def pause(self) -> None:
        """Stop changing, and print what a change has cost on average so far: microseconds of CPU."""
        self.changing.clear()
        print(self.spent / 1000 / max(1, self.changes), flush=True)


async def serve(listen: str, catalog: Catalog, views: int) -> None:
    flags = {"listen": (listen,), "docker": ("off",), "upstream": ("off",), "http": "off", "state_dir": "off"}
    config = load(flags, {}, Path("/"))
    # askers of the range for benchmarks count as such whose address may be forged
    unlimited = config.dns.model_copy(update={"rate_limit": 0})
    app = App(config.model_copy(update={"dns": unlimited}))
    source = Source(app.registry.writer("bench", "bench"), catalog, views)
    source.publish()
    await app.start()
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, source.changing.set)
    loop.add_signal_handler(signal.SIGUSR2, source.pause)
    async with asyncio.TaskGroup() as group:
        running = [spawn(group, "sources", app.run_sources()), spawn(group, "changes", source.change())]
        await stop.wait()
        await app.stop()
        for task in running:
            task.cancel()


def leave_out_counting() -> None:
    """Answer without a counter or a clock, as no server that is shipped does."""
    Hits.add = lambda _self, _numbers: None  # type: ignore[assignment, method-assign]
    observed.endpoint = BatchedEndpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--listen", required=True)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--instances", type=int, default=3)
    parser.add_argument("--views", type=int, default=0)
    parser.add_argument("--uncounted", action="store_true")
    given = parser.parse_args()
    if given.uncounted:
        leave_out_counting()
    eventloop.run(serve(given.listen, Catalog(given.services, given.instances), given.views))


if __name__ == "__main__":
    main()
