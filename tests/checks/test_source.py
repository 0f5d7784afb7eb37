"""A source with checks in front of its sink: what the registry hears, and that no probe outlives it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from discoverd.checks import CheckedSource
from discoverd.checks import verdict as verdicts
from discoverd.model import Address, Check, CheckKind, Health, Instance, SourceState, State
from discoverd.registry import Registry
from tests.wait import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from discoverd.model import IPAddress
    from discoverd.sources.base import Sink

TCP = Check(CheckKind.TCP, 80)


def make(number: int = 1, check: Check | None = TCP) -> Instance:
    address = Address(ip_address(f"192.0.2.{number}"))
    return Instance(f"c{number}", "web", "docker/local", addresses=(address,), check=check, started_at=1.0)


class Engine:
    """A source that says what the test wants, and runs until it is told to end."""

    name, kind = "docker/local", "docker"

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.end = asyncio.Event()
        self.fault: Exception | None = None

    async def run(self) -> None:
        self.sink.status(SourceState.LIVE)
        await self.end.wait()
        if self.fault:
            raise self.fault


class World:
    """``ill`` are the addresses whose probes fail; ``now`` and ``most`` count probes at a time."""

    def __init__(self, lanes: int = 4) -> None:
        self.registry = Registry()
        self.ill: set[str] = set()
        self.probed: list[str] = []
        self.now = self.most = 0
        self.held: asyncio.Event | None = None
        self.engines: list[Engine] = []
        writer = self.registry.writer("docker/local", "docker")
        self.source = CheckedSource(self._make, writer, asyncio.Semaphore(lanes), probe=self._probe)
        self.engine = self.engines[0]

    def _make(self, sink: Sink) -> Engine:
        self.engines.append(Engine(sink))
        return self.engines[-1]

    async def _probe(self, address: IPAddress, check: Check) -> str:
        assert check == TCP
        self.probed.append(str(address))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.held:
                await self.held.wait()
            return "it is ill" if str(address) in self.ill else ""
        finally:
            self.now -= 1

    def health(self) -> dict[str, Health]:
        return {instance.id: instance.health for instance in self.registry.instances()}

    async def becomes(self, **health: Health) -> None:
        await until_async(lambda: self.health() == health, message=lambda: f"{health}, now {self.health()}")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "INTERVAL", 0.01)
    monkeypatch.setattr(verdicts, "SOON", 0.005)


@asynccontextmanager
async def running(world: World) -> AsyncGenerator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.source.run(), name="source")
        yield
        task.cancel()


async def test_health_follows_the_probes() -> None:
    world = World()
    held = world.held = asyncio.Event()
    async with running(world):
        world.engine.sink.replace({"c1": [make(1)], "c2": [make(2)], "c3": [make(3, None)]})
        await world.becomes(c1=Health.STARTING, c2=Health.STARTING, c3=Health.HEALTHY)
        world.ill = {"192.0.2.2"}
        held.set()
        await world.becomes(c1=Health.HEALTHY, c2=Health.UNHEALTHY, c3=Health.HEALTHY)
        world.ill = {"192.0.2.1"}
        await world.becomes(c1=Health.UNHEALTHY, c2=Health.HEALTHY, c3=Health.HEALTHY)
    assert set(world.probed) == {"192.0.2.1", "192.0.2.2"}


async def test_what_is_said_again_keeps_its_health() -> None:
    world = World()
    async with running(world):
        world.ill = {"192.0.2.1"}
        world.engine.sink.publish("c1", [make(1)])
        await world.becomes(c1=Health.UNHEALTHY)
        renamed = replace(make(1), own_names=("other",))
        world.engine.sink.publish("c1", [renamed])
        assert world.health() == {"c1": Health.UNHEALTHY}
        world.engine.sink.replace({"c1": [renamed]})
        assert world.health() == {"c1": Health.UNHEALTHY}
        assert [i.own_names for i in world.registry.instances()] == [("other",)]
        world.engine.sink.publish("c1", [replace(renamed, state=State.DRAINING)])
        assert world.health() == {"c1": Health.UNHEALTHY}


async def test_a_restart_begins_anew() -> None:
    world = World()
    async with running(world):
        world.ill = {"192.0.2.1"}
        world.engine.sink.publish("c1", [make(1)])
        await world.becomes(c1=Health.UNHEALTHY)
        world.held = asyncio.Event()
        world.engine.sink.publish("c1", [replace(make(1), state=State.STOPPED, addresses=())])
        world.engine.sink.publish("c1", [replace(make(1), started_at=2.0)])
        assert world.health() == {"c1": Health.STARTING}
        world.ill = set()
        world.held.set()
        await world.becomes(c1=Health.HEALTHY)


async def test_what_is_gone_is_not_probed_any_more() -> None:
    world = World()
    async with running(world):
        world.engine.sink.replace({"c1": [make(1)], "c2": [make(2)], "c3": [make(3)]})
        await world.becomes(c1=Health.HEALTHY, c2=Health.HEALTHY, c3=Health.HEALTHY)
        world.engine.sink.publish("c1", [])
        world.engine.sink.publish("c3", [make(3, None)])
        world.engine.sink.replace({"c3": [make(3, None)]})
        assert world.health() == {"c3": Health.HEALTHY}
        assert not [
            task
            for task in asyncio.all_tasks()
            if task.get_name().startswith("check") and not task.cancelling()
        ]


async def test_few_probes_at_a_time() -> None:
    world = World(lanes=4)
    held = world.held = asyncio.Event()
    async with running(world):
        world.engine.sink.replace({f"c{n}": [make(n)] for n in range(1, 101)})
        await until_async(lambda: world.now == 4)
        held.set()
        await until_async(lambda: set(world.health().values()) == {Health.HEALTHY})
    assert world.most == 4


async def test_a_fault_of_the_source_comes_out_as_it_is_and_its_probes_end() -> None:
    world = World()
    world.engine.fault = RuntimeError("the engine exploded")
    world.engine.end.set()
    world.engine.sink.replace({"c1": [make(1)]})
    with pytest.raises(RuntimeError, match="exploded"):
        await world.source.run()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("check")]
    # the next run goes on with what was known
    world.engine.end.clear()
    async with running(world):
        await world.becomes(c1=Health.HEALTHY)


async def test_one_source_does_not_reach_anothers() -> None:
    world = World()
    other = replace(make(1, None), source="static", health=Health.HEALTHY)
    world.registry.writer("static", "static").replace({"c1": [other]})
    async with running(world):
        world.ill = {"192.0.2.1"}
        world.engine.sink.publish("c1", [make(1)])
        await until_async(
            lambda: (
                {i.source: i.health for i in world.registry.instances()}
                == {"static": Health.HEALTHY, "docker/local": Health.UNHEALTHY}
            )
        )
