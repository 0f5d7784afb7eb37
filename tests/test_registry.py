from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from discoverd.model import SourceState, State
from discoverd.nameindex import GONE_SECONDS
from discoverd.registry import MASS_REMOVAL_FLOOR, Registry, names_of
from tests.build import ENGINE, World, container, ip, network, static

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoverd.model import Instance
    from discoverd.registry import Change

WEB1 = container("web", 1, "edge", project="shop")
WEB2 = container("web", 2, "edge", project="shop")


@pytest.fixture
def registry() -> Registry:
    return Registry()


def told(registry: Registry) -> list[Change]:
    """The changes from now on."""
    changes: list[Change] = []
    registry.subscribe(changes.append)
    return changes


def ids(registry: Registry, name: str) -> list[str]:
    return [binding.instance.id for binding in registry.names.at(name)]


# -- who may say what -----------------------------------------------------------------------


def test_what_is_said_of_one_object_replaces_what_was_said_of_it(registry: Registry) -> None:
    writer = registry.writer(ENGINE, "docker")
    writer.publish("a", [WEB1])
    writer.publish("b", [WEB2])
    writer.publish("a", [container("db", 1, "edge", project="shop")])
    assert ids(registry, "web") == ["shop-web-2"]
    assert ids(registry, "db") == ["shop-db-1"]
    writer.publish("a", [])
    assert ids(registry, "db") == []
    assert registry.count(ENGINE) == 1


def test_a_full_sync_replaces_all_that_its_source_said(registry: Registry) -> None:
    writer = registry.writer(ENGINE, "docker")
    writer.publish("a", [WEB1])
    writer.replace({"b": [WEB2]})
    assert [i.id for i in registry.instances()] == ["shop-web-2"]
    assert ids(registry, "web") == ["shop-web-2"]


def test_one_source_cannot_erase_another(registry: Registry) -> None:
    one, other = registry.writer("one", "static"), registry.writer("other", "static")
    one.publish("k", [static("web", "192.0.2.1", source="one")])
    other.publish("k", [static("web", "192.0.2.1", source="other")])
    one.replace({})
    assert [i.source for i in registry.instances()] == ["other"]
    assert len(registry.at(ip("192.0.2.1"))) == len(ids(registry, "web")) == 1


def test_forgetting_a_source_takes_all_of_it_away(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    writer = registry.writer(ENGINE, "docker")
    writer.replace({str(i): [container("web", i, "edge", project="shop")] for i in range(1, 40)})
    writer.networks([network("edge")])
    changes = told(registry)
    registry.forget(ENGINE)
    assert not list(registry.instances())
    assert not list(registry.networks())
    assert not registry.statuses()
    assert changes[-1].everything
    assert len(changes[0].removed) == 39
    assert registry.mass_removals == 0, "it was meant"
    assert not caplog.records


def test_a_closed_writer_is_heard_no_more(registry: Registry) -> None:
    """A source's task that is being cancelled may speak once more, after another took its place."""
    old = registry.writer(ENGINE, "docker")
    old.publish("a", [WEB1])
    new = registry.writer(ENGINE, "docker")
    old.replace({})
    old.publish("b", [WEB2])
    old.networks([network("edge")])
    old.status(SourceState.STALE, "gone")
    assert [i.id for i in registry.instances()] == ["shop-web-1"]
    assert registry.status(ENGINE).state is SourceState.SYNCING
    assert list(registry.networks()) == []
    registry.forget(ENGINE)
    new.publish("b", [WEB2])
    assert list(registry.instances()) == []


def test_instances_that_fail_to_come_change_nothing(registry: Registry) -> None:
    writer = registry.writer(ENGINE, "docker")
    writer.replace({"a": [WEB1]})

    def broken() -> Iterator[Instance]:
        yield WEB2
        raise ValueError("cut off")

    with pytest.raises(ValueError, match="cut off"):
        writer.replace({"a": [], "b": broken()})
    assert [i.id for i in registry.instances()] == ids(registry, "web") == ["shop-web-1"]


# -- who is told what -----------------------------------------------------------------------


def test_a_change_says_what_came_went_and_differs(registry: Registry) -> None:
    writer = registry.writer(ENGINE, "docker")
    writer.replace({"a": [WEB1], "b": [WEB2]})
    changes = told(registry)
    paused = container("web", 2, "edge", project="shop", state=State.PAUSED)
    db = container("db", 3, "edge", project="shop")
    writer.replace({"b": [paused], "c": [db]})
    (change,) = changes
    assert (change.added, change.removed, change.updated) == ((db,), (WEB1,), ((WEB2, paused),))
    assert change.names >= {"web", "db", "web.shop", "1.web.shop", "2.web.shop", "shop-db-3"}
    assert change.addresses == {ip("10.3.0.1"), ip("10.3.0.2"), ip("10.3.0.3")}
    assert not change.everything


def test_saying_the_same_again_is_no_change(registry: Registry) -> None:
    writer = registry.writer(ENGINE, "docker")
    writer.replace({"a": [WEB1]})
    changes = told(registry)
    again = container("web", 1, "edge", project="shop")
    writer.replace({"a": [again]})
    writer.publish("a", [again])
    assert changes == []
    (kept,) = registry.instances()
    assert kept is WEB1, "one value is kept of equal ones"


def test_networks_and_states_change_everything(registry: Registry) -> None:
    writer = registry.writer(ENGINE, "docker")
    changes = told(registry)
    writer.networks([network("edge")])
    writer.networks([network("edge")])
    writer.status(SourceState.LIVE)
    writer.status(SourceState.LIVE, events=3)
    writer.status(SourceState.STALE, "connection refused")
    assert [change.everything for change in changes] == [True] * 3


def test_networks_are_known_by_the_source_that_told_them(registry: Registry) -> None:
    registry.writer("one", "docker").networks([network("edge")])
    registry.writer("other", "docker").networks([network("backend")])
    assert list(registry.networks()) == [network("edge"), network("backend")]
    assert list(registry.networks("one")) == [network("edge")]
    assert not list(registry.networks("nobody"))


def test_a_subscriber_that_fails_keeps_nothing_from_the_others(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_change: Change) -> None:
        raise RuntimeError("out of order")

    registry.subscribe(broken)
    changes = told(registry)
    registry.writer(ENGINE, "docker").publish("a", [WEB1])
    assert changes[-1].added == (WEB1,)
    assert "out of order" in caplog.text


def test_who_leaves_is_told_no_more(registry: Registry) -> None:
    changes: list[Change] = []
    leave = registry.subscribe(changes.append)
    leave()
    registry.writer(ENGINE, "docker").publish("a", [WEB1])
    assert changes == []


def test_the_serial_grows_with_every_change(registry: Registry) -> None:
    writer = registry.writer(ENGINE, "docker")
    before = registry.serial
    writer.publish("a", [WEB1])
    writer.publish("a", [])
    assert registry.serial >= before + 2


def test_names_that_are_gone_are_told_when_they_are_forgotten() -> None:
    world = World(WEB1)
    world.remove(WEB1)
    changes = told(world.registry)
    world.pass_time(GONE_SECONDS - 1)
    assert changes == []
    world.pass_time(1)
    assert changes[0].names >= {"web", "web.shop", "shop"}
    world.pass_time(1)
    assert len(changes) == 1


# -- what a source says of itself ------------------------------------------------------------


def test_a_source_syncs_is_live_and_goes_stale(registry: Registry) -> None:
    writer = registry.writer(ENGINE, "docker")
    assert registry.syncing == {ENGINE}
    assert registry.status(ENGINE).last_sync is None
    writer.status(SourceState.LIVE, events=1)
    live = registry.status(ENGINE)
    assert registry.syncing == registry.stale == frozenset()
    assert live.last_sync is not None
    writer.status(SourceState.STALE, "connection refused", reconnects=2)
    stale = registry.status(ENGINE)
    assert registry.stale == {ENGINE}
    assert (stale.last_error, stale.last_sync) == ("connection refused", live.last_sync)
    assert stale.detail == {"events": 1, "reconnects": 2}


def test_a_refresh_that_removes_most_is_logged_loudly_and_counted(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    writer = registry.writer(ENGINE, "docker")
    many = {str(i): [container("web", i, "edge", project="shop")] for i in range(MASS_REMOVAL_FLOOR)}
    writer.replace(many)
    half = dict(list(many.items())[: MASS_REMOVAL_FLOOR // 2])
    writer.replace(half)
    assert registry.mass_removals == 0
    writer.replace(many)
    writer.replace(dict(list(half.items())[1:]))
    assert registry.mass_removals == 1
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert f"removes {MASS_REMOVAL_FLOOR // 2 + 1} of {MASS_REMOVAL_FLOOR} instances" in caplog.text


def test_few_instances_may_all_go_without_a_word(registry: Registry) -> None:
    writer = registry.writer(ENGINE, "docker")
    writer.replace({str(i): [container("web", i, "edge")] for i in range(1, MASS_REMOVAL_FLOOR)})
    writer.replace({})
    assert registry.mass_removals == 0


# -- addresses --------------------------------------------------------------------------------


def test_the_instance_that_started_last_holds_an_address(registry: Registry) -> None:
    """An engine gives an address away again within a second."""
    writer = registry.writer(ENGINE, "docker")
    new = container("web", 1, "edge", started_at=9.0)
    writer.publish("new", [new])
    writer.publish("old", [container("db", 1, "edge", started_at=5.0)])
    assert [i.service for i in registry.at(ip("10.3.0.1"))] == ["web", "db"]
    writer.publish("old", [])
    assert registry.at(ip("10.3.0.1")) == (new,)
    writer.publish("new", [])
    assert registry.at(ip("10.3.0.1")) == ()


def test_an_address_on_two_networks_is_held_once(registry: Registry) -> None:
    both = static("web", "192.0.2.1", "192.0.2.1")
    writer = registry.writer("static", "static")
    writer.publish("a", [both])
    assert registry.at(ip("192.0.2.1")) == (both,)
    writer.publish("a", [])
    assert registry.at(ip("192.0.2.1")) == ()


def test_names_for_showing() -> None:
    assert names_of(static("web", "192.0.2.1", scope="shop")) == ("web", "web.shop", "web-192-0-2-1")
