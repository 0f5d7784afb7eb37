"""The Docker source alone against a real engine: what it publishes when containers change.

Every wait ends long before the periodic resync: what is seen was brought by events.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from discoverd.model import Health, Instance, SourceState, State
from discoverd.sources.docker import DockerSettings, DockerSource
from discoverd.sources.docker.connection import THOROUGH
from tests.wait import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping

    from discoverd.model import Network
    from tests.real.conftest import Containers
    from tests.real.engine import Engine, HostedEngine

pytestmark = pytest.mark.docker

#: A main process that does as it is told by SIGTERM only after SIGUSR1.
STUBBORN = ("sh", "-c", "trap : HUP USR1 TERM; while :; do sleep 0.1; done")


@dataclass
class Sink:
    """All that a source said, and when."""

    objects: dict[str, tuple[Instance, ...]] = field(default_factory=dict)
    said: list[tuple[str, Instance]] = field(default_factory=list)
    replaced: int = 0
    known_networks: tuple[Network, ...] = ()
    statuses: list[tuple[SourceState, str | None]] = field(default_factory=list)
    details: list[dict[str, int | str]] = field(default_factory=list)

    def publish(self, key: str, instances: Iterable[Instance]) -> None:
        self.objects[key] = tuple(instances)
        self.said += [(key, instance) for instance in self.objects[key]]
        if not self.objects[key]:
            del self.objects[key]

    def replace(self, objects: Mapping[str, Iterable[Instance]]) -> None:
        self.objects = {key: tuple(instances) for key, instances in objects.items()}
        self.replaced += 1

    def networks(self, networks: Iterable[Network]) -> None:
        self.known_networks = tuple(networks)

    def status(self, state: SourceState, error: str | None = None, **detail: int | str) -> None:
        self.statuses.append((state, error))
        self.details.append(detail)

    @property
    def state(self) -> SourceState:
        return self.statuses[-1][0] if self.statuses else SourceState.SYNCING

    def of(self, key: str) -> Instance | None:
        """The main instance of a container."""
        return next(iter(self.objects.get(key, ())), None)

    def states(self, key: str) -> list[State]:
        """The states of a container as they were said, repetitions left out."""
        states = [instance.state for said, instance in self.said if said == key]
        return [b for a, b in zip([None, *states], states, strict=False) if a is not b]

    async def until(self, key: str, condition: Callable[[Instance], object], what: str = "") -> Instance:
        """Wait until the main instance of a container meets a condition."""
        await until_async(
            lambda: (found := self.of(key)) is not None and condition(found),
            message=lambda: f"{what}: {self.of(key)}",
            interval=0.005,
        )
        found = self.of(key)
        assert found is not None
        return found

    async def until_state(self, state: SourceState) -> None:
        await until_async(lambda: self.state is state, message=lambda: f"{state}: {self.statuses[-3:]}")


@contextlib.asynccontextmanager
async def following(url: str, *, resync: float = 3600.0, wait: bool = True) -> AsyncGenerator[Sink]:
    """A source that follows an engine, in step unless ``wait`` is false."""
    sink = Sink()
    source = DockerSource(DockerSettings(url=url, resync_seconds=resync), sink)
    task = asyncio.get_running_loop().create_task(source.run(), name=source.name)
    try:
        if wait:
            await sink.until_state(SourceState.LIVE)
        yield sink
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def networks_of(instance: Instance) -> set[str]:
    return {address.network for address in instance.addresses}


def running(instance: Instance) -> bool:
    return instance.state is State.RUNNING and bool(instance.addresses)


def stopped(instance: Instance) -> bool:
    return instance.state is State.STOPPED and not instance.addresses


async def test_one_containers_life(
    engine: Engine, containers: Containers, unique: Callable[[str], str]
) -> None:
    name, network = unique("life"), unique("net")

    async def docker(*args: str) -> None:
        await asyncio.to_thread(engine.docker, *args)

    async with following(engine.url) as sink:
        await asyncio.to_thread(containers.network, network)
        await until_async(lambda: network in {n.name for n in sink.known_networks})
        key = await asyncio.to_thread(containers.run, name, "--label", "discoverd.tags=blue")
        first = await sink.until(key, running, "started")
        assert (first.service, first.own_names, first.unique, first.tags) == (
            name,
            (name,),
            key[:12],
            ("blue",),
        )
        assert networks_of(first) == {"bridge"}
        said = await asyncio.to_thread(engine.inspect, key)
        assert str(first.addresses[0].ip) == said[0]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]

        await docker("network", "connect", "--alias", "www", network, name)
        both = await sink.until(key, lambda i: network in networks_of(i), "connected")
        assert [m.aliases for m in both.memberships if m.network == network] == [("www",)]
        assert {n.id for n in sink.known_networks} >= both.network_ids
        await docker("network", "disconnect", network, name)
        await sink.until(key, lambda i: networks_of(i) == {"bridge"}, "disconnected")

        await docker("pause", name)
        paused = await sink.until(key, lambda i: i.state is State.PAUSED, "paused")
        assert paused.addresses
        await docker("unpause", name)
        await sink.until(key, running, "unpaused")

        await docker("rename", name, f"{name}x")
        await sink.until(key, lambda i: i.own_names == (f"{name}x",), "renamed")
        await docker("restart", key)
        again = await sink.until(key, lambda i: running(i) and i.started_at > first.started_at, "restarted")
        assert again.started_at == pytest.approx(time.time(), abs=60)

        await docker("kill", key)
        gone = await sink.until(key, stopped, "killed")
        assert [m.network for m in gone.memberships] == ["bridge"]  # its clients must not fall over to others
        await docker("start", key)
        await sink.until(key, running, "started again")
        await docker("rm", "--force", key)
        await until_async(lambda: key not in sink.objects)
        await docker("network", "rm", network)
        await until_async(lambda: network not in {n.name for n in sink.known_networks})
        assert sink.replaced == 1


async def test_a_stop_takes_it_out_before_its_end(
    engine: Engine, containers: Containers, unique: Callable[[str], str]
) -> None:
    async with following(engine.url) as sink:
        key = await asyncio.to_thread(containers.run, unique("stop"), command=STUBBORN)
        served = await sink.until(key, running)
        stopping = asyncio.get_running_loop().run_in_executor(None, engine.docker, "stop", "--time", "2", key)
        leaving = await sink.until(key, lambda i: i.state is State.DRAINING, "draining")
        assert leaving.addresses == served.addresses
        assert not stopping.done()
        await stopping
        await sink.until(key, stopped)
        assert sink.states(key)[-3:] == [State.RUNNING, State.DRAINING, State.STOPPED]


async def test_one_that_lives_on_comes_back(
    engine: Engine, containers: Containers, unique: Callable[[str], str]
) -> None:
    async with following(engine.url) as sink:
        key = await asyncio.to_thread(
            containers.run, unique("lives"), "--stop-timeout", "1", command=STUBBORN
        )
        await sink.until(key, running)
        for harmless in ("HUP", "USR1"):
            await asyncio.to_thread(engine.docker, "kill", "--signal", harmless, key)
        await asyncio.to_thread(engine.docker, "kill", "--signal", "TERM", key)
        await sink.until(key, lambda i: i.state is State.DRAINING, "draining")
        await sink.until(key, running, "back in service")
        assert sink.states(key)[-3:] == [State.RUNNING, State.DRAINING, State.RUNNING]


async def test_health(engine: Engine, containers: Containers, unique: Callable[[str], str]) -> None:
    check = ("--health-cmd", "test -e /tmp/ok", "--health-interval", "0.3s", "--health-retries", "1")
    async with following(engine.url) as sink:
        key = await asyncio.to_thread(containers.run, unique("health"), *check)
        await sink.until(key, lambda i: i.health is Health.UNHEALTHY and i.addresses, "unhealthy")
        await asyncio.to_thread(engine.docker, "exec", key, "touch", "/tmp/ok")
        await sink.until(key, lambda i: i.health is Health.HEALTHY, "healthy")
        await asyncio.to_thread(engine.docker, "restart", key)
        await sink.until(key, lambda i: running(i) and i.health is Health.HEALTHY, "healthy again")
        await asyncio.to_thread(engine.docker, "exec", key, "rm", "/tmp/ok")
        await sink.until(key, lambda i: i.health is Health.UNHEALTHY, "unhealthy again")
        of_it = [i.health for said, i in sink.said if said == key and i.addresses]
        assert Health.STARTING in of_it  # no event says so


async def test_one_that_restarts_by_itself(
    engine: Engine, containers: Containers, unique: Callable[[str], str]
) -> None:
    async with following(engine.url) as sink:
        key = await asyncio.to_thread(
            containers.run, unique("loop"), "--restart", "always", command=("sh", "-c", "exit 3")
        )
        restarting = await sink.until(key, lambda i: i.state is State.RESTARTING, "restarting")
        assert restarting.addresses == ()


async def test_a_joined_container(
    engine: Engine, containers: Containers, unique: Callable[[str], str]
) -> None:
    async def docker(*args: str) -> None:
        await asyncio.to_thread(engine.docker, *args)

    network = unique("net")
    async with following(engine.url) as sink:
        base = await asyncio.to_thread(containers.run, unique("base"))
        side = await asyncio.to_thread(containers.run, unique("side"), "--network", f"container:{base}")
        served = await sink.until(base, running)
        assert (await sink.until(side, running)).addresses == served.addresses
        await asyncio.to_thread(containers.network, network)
        await docker("network", "connect", network, base)
        await sink.until(side, lambda i: network in networks_of(i), "on the new network as well")
        await docker("stop", base)  # no event tells of the other one
        await sink.until(side, lambda i: not i.addresses, "cut off")
        await docker("start", base)
        await sink.until(base, running)
        found = await sink.until(side, lambda i: not i.addresses, "still cut off")
        assert found.state is State.RUNNING
        reach = await asyncio.to_thread(engine.docker, "exec", side, "ip", "-4", "-o", "addr")
        assert not [
            line for line in reach.splitlines() if " lo " not in line
        ]  # and so says the engine's kernel
        await docker("restart", side)
        again = await sink.until(side, running, "joined again")
        assert again.addresses == (await sink.until(base, running)).addresses


async def test_a_sync_finds_what_was_there_before(
    engine: Engine,
    containers: Containers,
    unique: Callable[[str], str],
    record_property: Callable[[str, object], None],
) -> None:
    def make() -> tuple[str, str, list[str]]:
        base = containers.run(unique("base"))
        side = containers.run(unique("side"), "--network", f"container:{base}")
        rest = [engine.docker("create", "--label", engine.session.label, engine.image) for _ in range(30)]
        return base, side, rest

    base, side, rest = await asyncio.to_thread(make)
    began = time.perf_counter()
    async with following(engine.url) as sink:
        record_property(
            f"measured first sync of {len(sink.objects)} containers", f"{time.perf_counter() - began:.3f} s"
        )
        assert sink.replaced == 1
        assert sink.said == []
        joined, other = sink.of(side), sink.of(base)
        assert joined is not None
        assert other is not None
        assert joined.addresses == other.addresses != ()
        assert {base, side, *rest} <= sink.objects.keys()
        assert all(instance.network_ids for key in rest if (instance := sink.of(key)))
        await asyncio.to_thread(engine.docker, "rm", "--force", *rest)
        await until_async(lambda: not set(rest) & sink.objects.keys())


async def test_a_resync_without_changes_asks_for_nothing_in_detail(
    engine: Engine, containers: Containers, unique: Callable[[str], str]
) -> None:
    key = await asyncio.to_thread(containers.run, unique("quiet"))
    async with following(engine.url, resync=0.05) as sink:
        await sink.until(key, running)
        await until_async(lambda: len(sink.details) > THOROUGH + 2)
        syncs = [int(detail["inspects"]) for detail in sink.details[1:]]  # the first status is from before
        assert syncs[0] == syncs[THOROUGH - 1] >= len(sink.objects)
        assert syncs[THOROUGH] - syncs[0] >= len(sink.objects)


async def test_cancelling_leaves_nothing_behind(engine: Engine) -> None:
    before = set(threading.enumerate())
    async with following(engine.url) as sink:
        assert sink.state is SourceState.LIVE
        assert set(threading.enumerate()) > before
    await until_async(lambda: set(threading.enumerate()) <= before, timeout=5)


async def test_an_engine_comes_goes_and_comes_again(
    own_engine: HostedEngine, unique: Callable[[str], str]
) -> None:
    def run(kind: str, *options: str) -> str:
        return own_engine.run(unique(kind), *options)

    stays, restarts = await asyncio.to_thread(lambda: (run("stays"), run("restarts", "--restart", "always")))
    async with following(own_engine.url) as sink:
        known = sink.objects
        assert {stays, restarts} <= known.keys()
        await asyncio.to_thread(own_engine.kill)
        await sink.until_state(SourceState.STALE)
        assert sink.objects == known
        await until_async(lambda: "nothing listens at" in (sink.statuses[-1][1] or ""))
        assert sink.objects == known

        await asyncio.to_thread(own_engine.start)
        await sink.until_state(SourceState.LIVE)
        await sink.until(stays, stopped, "ended with its engine")
        await sink.until(restarts, running, "started by its engine")
        assert sink.details[-1]["reconnects"] == 1

        fresh = await asyncio.to_thread(run, "fresh")
        await sink.until(fresh, running, "events are followed again")
        await asyncio.to_thread(own_engine.stop)
        await sink.until_state(SourceState.STALE)
        await until_async(lambda: "no Docker socket at" in (sink.statuses[-1][1] or ""))
        assert {stays, restarts, fresh} <= sink.objects.keys()


async def test_before_the_engine(own_engine: HostedEngine, unique: Callable[[str], str]) -> None:
    await asyncio.to_thread(own_engine.stop)
    async with following(own_engine.url, wait=False) as sink:
        await until_async(lambda: sink.statuses and sink.statuses[-1][1])
        assert sink.state is SourceState.SYNCING
        assert "no Docker socket at" in (sink.statuses[-1][1] or "")
        assert sink.replaced == 0
        await asyncio.to_thread(own_engine.start)
        await sink.until_state(SourceState.LIVE)
        assert sink.statuses[-1][1] is None
        key = await asyncio.to_thread(own_engine.run, unique("late"))
        await sink.until(key, running)
