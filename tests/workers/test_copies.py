"""Copies of the registry: whatever happens and whenever they are told, they end where the original is."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from hypothesis import strategies as st

from discoverd.catalog import Catalog, Endpoint, Node
from discoverd.model import SourceState
from discoverd.nameindex import GONE_SECONDS
from discoverd.registry import Registry
from discoverd.workers import mirror, replica
from discoverd.workers.messages import LENGTH, Update, pack
from discoverd.workers.mirror import CURRENT, OUTLINE, Mark, Marks, Mirror
from tests.build import World, container, network, static, unhurried
from tests.strategies import instances, of_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoverd.registry import Writer

SOURCES, KEYS, DATACENTERS, SERVICES = ["one", "two"], ["k1", "k2", "k3"], ["dc1", "dc2"], ["web", "db"]
sources, datacenters = st.sampled_from(SOURCES), st.sampled_from(DATACENTERS)
said = st.dictionaries(st.sampled_from(KEYS), st.lists(instances(), max_size=2), max_size=3)
endpoints = st.integers(0, 2).map(
    lambda n: tuple(Endpoint(Node(f"n{i}", "10.0.0.1", "dc1"), f"e{i}", "web") for i in range(n))
)
nodes = st.integers(0, 2).map(lambda n: {f"n{i}": Node(f"n{i}", f"10.0.0.{i}", "dc1") for i in range(n)})
steps = st.one_of(
    st.tuples(st.just("write"), sources, said, st.booleans()),
    st.tuples(st.just("forget"), sources),
    st.tuples(st.just("status"), sources, st.sampled_from(SourceState)),
    st.tuples(st.just("restore"), sources, said),
    st.tuples(st.just("give up"), sources),
    st.tuples(st.just("networks"), sources, st.sampled_from(["edge", "shop", ""])),
    st.tuples(st.just("time"), st.sampled_from([1.0, GONE_SECONDS / 2, GONE_SECONDS])),
    st.tuples(st.just("service"), datacenters, st.sampled_from(SERVICES), endpoints),
    st.tuples(st.just("nodes"), datacenters, nodes),
    st.tuples(st.just("in step"), datacenters),
    st.tuples(st.just("home"), datacenters),
    st.tuples(st.just("other agent")),
    st.tuples(st.just("restored"), datacenters, endpoints),
    st.tuples(st.just("tell"), st.integers(0, 1), st.integers(1, 3)),
)


class Copy:
    """What a worker has. It takes updates as they come out of the socket."""

    def __init__(self, original: Mirror) -> None:
        self.registry, self.catalog, self.marks = Registry(), Catalog(), Marks()
        self.marks.add(*original.everything())

    def take(self, update: Update) -> None:
        replica.apply(pickle.loads(pack(update)[LENGTH.size :]), self.registry, self.catalog)


class Original:
    """The main process's side. Copies are told when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.registry, self.catalog = Registry(clock=lambda: self.now), Catalog()
        self.writers: dict[str, Writer] = {}
        self.copies: list[Copy] = []
        self.mirror = Mirror(self.registry, self.catalog, self._wake)

    def _wake(self, *marks: Mark) -> None:
        for copy in self.copies:
            copy.marks.add(*marks)

    def writer(self, source: str) -> Writer:
        if source not in self.writers:
            self.writers[source] = self.registry.writer(source, "test")
        return self.writers[source]

    def tell(self, copy: Copy, times: int | None = None) -> None:
        while copy.marks and times != 0:
            copy.take(self.mirror.update(copy.marks.take()))
            times = None if times is None else times - 1

    def do(self, step: tuple[Any, ...]) -> None:
        match step:
            case "write", source, objects, full:
                writer = self.writer(source)
                objects = {k: [of_source(i, source) for i in group] for k, group in objects.items()}
                if full:
                    writer.replace(objects)
                for key, group in objects.items():
                    writer.publish(key, group)
            case "forget", source:
                if self.writers.pop(source, None):
                    self.registry.forget(source)
            case "status", source, state:
                self.writer(source).status(state)
            case "restore", source, objects:
                objects = {k: [of_source(i, source) for i in group] for k, group in objects.items()}
                self.writer(source).restore(objects, [network("edge")], 1.0)
            case "give up", source:
                self.writer(source).give_up()
            case "networks", source, name:
                self.writer(source).networks([network(name)] if name else [])
            case "time", seconds:
                self.now += seconds
                self.registry.expire()
            case "service", datacenter, name, found:
                self.catalog.follow(datacenter)
                self.catalog.set_service(datacenter, name, found)
            case "nodes", datacenter, found:
                self.catalog.follow(datacenter)
                self.catalog.set_nodes(datacenter, found)
            case "in step", datacenter:
                self.catalog.follow(datacenter)
                self.catalog.in_step(datacenter)
            case "home", datacenter:
                self.catalog.home, self.catalog.datacenters = datacenter, frozenset({datacenter, "far"})
            case "restored", datacenter, found:
                known = {"web": found} if found else {}
                self.catalog.restore(datacenter, known, {}, frozenset({datacenter}), home=True)
            case ("other agent",):
                self.catalog.forget()
            case "tell", number, times:
                if number < len(self.copies):
                    self.tell(self.copies[number], times)
                else:
                    self.copies.append(Copy(self.mirror))


@pytest.fixture(autouse=True, scope="module")
def few_at_once() -> Any:
    """An update holds two things, so that what belongs together comes apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mirror, "AT_ONCE", 2)
        yield


@unhurried
@hypothesis.given(st.lists(steps, max_size=25))
def test_any_sequence_leads_copies_to_what_the_original_is(happened: list[tuple[Any, ...]]) -> None:
    original = Original()
    original.copies.append(Copy(original.mirror))
    for step in happened:
        original.do(step)
    original.copies.append(Copy(original.mirror))  # a worker that is started at last
    for copy in original.copies:
        original.tell(copy)
        assert everything(copy.registry) == everything(original.registry)
        assert vars_of(copy.catalog) == vars_of(original.catalog)


def everything(registry: Registry) -> dict[str, Any]:
    index = registry.names
    return {
        "instances": Counter(registry.instances()),
        "bound": {name: Counter(index._bound[name]) for name in index.bound()},
        "above": index._above._below,
        "gone": {name: set(index.gone(name)) for name in index.lately},
        "addresses": {ip: Counter(held) for ip, held in registry._addresses.items()},
        "networks": {name: n for name, n in registry.networks_by_source().items() if n},
        "states": {s.name: (s.kind, s.state, s.restored) for s in registry.statuses()},
        "serial": registry.serial,
        "unsure": (registry.syncing, registry.stale),
    }


def vars_of(catalog: Catalog) -> dict[str, Any]:
    return {"home": catalog.home, "all": catalog.datacenters, "followed": catalog.followed}


def following(world: World) -> tuple[Copy, Callable[[], list[Update]]]:
    """A copy of a world, and what tells it one update after another."""
    marks = Marks()
    original = Mirror(world.registry, Catalog(), marks.add)
    copy = Copy(original)

    def tell() -> list[Update]:
        copy.marks.add(*marks.all())
        marks.__init__()  # type: ignore[misc]
        told = []
        while copy.marks:
            told.append(original.update(copy.marks.take()))
            copy.take(told[-1])
        return told

    return copy, tell


def test_a_copy_is_told_that_it_is_current_only_once_it_knows_everything() -> None:
    """Before that, a name that it does not know may be one that is still to come: no NXDOMAIN."""
    world = World(*(container(f"s{i}", i + 2, "edge") for i in range(9)))
    copy, tell = following(world)
    told = tell()
    assert len(told) == 5
    assert [update.current is not None for update in told] == [False] * 4 + [True]
    assert told[0].outline is not None
    assert not copy.registry.syncing


def test_a_source_that_was_only_named_is_not_current() -> None:
    world = World(container("web", 2, "edge"))
    original = Mirror(world.registry, Catalog(), lambda *_: None)
    copy = Copy(original)
    copy.take(original.update((OUTLINE,)))
    assert copy.registry.syncing
    copy.take(original.update((CURRENT,)))
    assert not copy.registry.syncing


def test_many_changes_of_one_object_are_one_update() -> None:
    world = World()
    copy, tell = following(world)
    tell()
    web = static("web", "192.0.2.1")
    world.put(web)
    for weight in range(1000):
        world.change(web, weight=weight)
    (update,) = tell()
    assert [group[0].weight for _, _, group in update.objects] == [999]
    assert update.current is not None
    assert copy.registry.serial == world.registry.serial


def test_a_copy_made_later_remembers_what_is_gone() -> None:
    web = container("web", 2, "shop", project="shop")
    world = World(web)
    world.remove(web)
    copy, tell = following(world)
    tell()
    assert copy.registry.names.gone("web") == world.registry.names.gone("web") != ()
    world.pass_time(GONE_SECONDS)
    tell()
    assert copy.registry.names.gone("web") == ()
    assert "web" not in copy.registry.names


def test_what_went_before_a_copy_was_told_of_it_is_remembered_there() -> None:
    web = container("web", 2, "shop", project="shop")
    world = World(web)
    copy, tell = following(world)  # it has marks for web, and was told nothing
    world.remove(web)
    tell()
    assert copy.registry.names.gone("web")
