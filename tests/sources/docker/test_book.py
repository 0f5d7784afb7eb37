from __future__ import annotations

from typing import Any

import pytest

from discoverd.model import State
from discoverd.sources.docker.book import Book, Update
from discoverd.sources.docker.networks import NetworkMap
from tests.sources.docker.recorded import ENGINES, SETTINGS, load, networks

NOW = 1000.0


class Heard:
    """A book that is told of recorded containers, with questions numbered as they come."""

    def __init__(self, engine: str = "engine-26") -> None:
        self.engine = engine
        self.book = Book(SETTINGS)
        self.book.set_networks(networks(engine), 0)
        self.asked = 0

    def __call__(self, name: str, *, asked: int = 0, now: float = NOW, **changes: Any) -> Update:
        doc = load(self.engine, name)
        for section, values in changes.items():
            doc[section] = {**doc[section], **values} if isinstance(values, dict) else values
        self.asked += 1
        return self.book.heard(doc, asked or self.asked, now)

    def id(self, name: str) -> str:
        found: str = load(self.engine, name)["Id"]
        return found

    def states(self, *names: str) -> list[State]:
        return [self.book.objects()[self.id(name)][0].state for name in names]


@pytest.mark.parametrize("engine", ENGINES)
def test_news_are_published_once(engine: str) -> None:
    heard = Heard(engine)
    key = heard.id("plain")
    update = heard("plain")
    assert list(update.objects) == [key]
    assert update.look == ()
    assert heard.book.objects() == update.objects
    assert heard("plain") == Update()
    renamed = heard("plain", Name="/new")
    assert renamed.objects[key][0].own_names == ("new",)


def test_an_answer_to_an_older_question_never_replaces_a_newer_ones() -> None:
    heard = Heard()
    heard("plain", asked=5, Name="/newer")
    assert heard("plain", asked=4, Name="/older") == Update()
    heard.book.gone(heard.id("plain"), 4)
    assert heard.id("plain") in heard.book
    assert heard.book.gone(heard.id("plain"), 6).objects == {heard.id("plain"): ()}
    assert heard("plain", asked=5) == Update()  # what was on its way while it was removed
    assert heard.book.objects() == {}
    heard.book.settle(7)
    assert heard("plain", asked=8).objects


def test_what_was_never_known_cannot_go() -> None:
    assert Heard().book.gone("x", 1) == Update()
    assert Heard().book.killed("x", "15", NOW) == Update()
    assert Heard().book.died("x", 1) == Update()


def test_remarks_are_made_once_and_again_when_they_change() -> None:
    heard = Heard()
    first = heard("labelled").notes
    assert len(first) == 3
    assert all(note.startswith("container labelled: label discoverd.") for note in first)
    assert heard("labelled", State={"Paused": True}).notes == ()
    labels = {"discoverd.ttl": "x", "discoverd.weight": "heavy"}
    config = {**load("engine-26", "labelled")["Config"], "Labels": labels}
    assert [note.partition(" is ")[0] for note in heard("labelled", Config=config).notes] == [
        "container labelled: label discoverd.ttl"
    ]


def test_garbage_changes_nothing() -> None:
    heard = Heard()
    heard("plain")
    before = heard.book.objects()
    with pytest.raises(ValueError, match="expected the inspect"):
        heard.book.heard({"Id": heard.id("plain"), "message": "oops"}, 99, NOW)
    assert heard.book.objects() == before


def test_a_joined_container_is_looked_at_again_when_the_other_changes() -> None:
    heard = Heard()
    loose, joined = heard.id("bridge"), heard.id("joined")
    assert heard("joined").look == (loose,)  # not known yet
    assert heard.book.objects()[joined][0].addresses == ()
    assert heard("bridge").look == (joined,)
    assert heard("joined").objects[joined][0].addresses
    assert heard("bridge", Name="/renamed").look == ()
    assert heard("bridge", NetworkSettings={"Networks": {}}).look == (joined,)
    assert heard("joined").objects[joined][0].addresses == ()
    assert heard.book.gone(loose, 99).look == (joined,)


def test_one_joined_by_name_is_found_too() -> None:
    heard = Heard()
    heard("bridge")
    assert (
        heard("joined", HostConfig={"NetworkMode": "container:loose"})
        .objects[heard.id("joined")][0]
        .addresses
    )


def test_a_stop_signal_drains_at_once_and_until_its_time_is_over() -> None:
    heard = Heard()
    key = heard.id("shop-web-1")
    running = heard("shop-web-1").objects[key]
    update = heard.book.killed(key, "10", NOW)
    assert [i.state for i in update.objects[key]] == [State.DRAINING]
    assert update.objects[key][0].addresses == running[0].addresses
    assert update.again == {key: 4.0}
    # inspects still say that it runs
    said = heard("shop-web-1", now=NOW + 1)
    assert (said.objects, said.again) == ({}, {key: 3.0})
    assert heard.states("shop-web-1") == [State.DRAINING]
    # it lives on
    assert heard("shop-web-1", now=NOW + 4).objects == {key: running}


def test_a_harmless_signal_changes_nothing() -> None:
    heard = Heard()
    heard("shop-web-1")
    assert heard.book.killed(heard.id("shop-web-1"), "1", NOW) == Update()


def test_a_second_signal_gives_more_time() -> None:
    heard = Heard()
    key = heard.id("shop-web-1")
    heard("shop-web-1")
    heard.book.killed(key, "10", NOW)
    assert heard.book.killed(key, "9", NOW + 3) == Update(again={key: 4.0})


def test_a_drain_ends_with_a_restart() -> None:
    heard = Heard()
    key = heard.id("plain")
    heard("plain")
    heard.book.killed(key, "15", NOW)
    again = heard("plain", now=NOW + 1, State={"StartedAt": "2999-01-01T00:00:00.5Z"})
    assert [i.state for i in again.objects[key]] == [State.RUNNING]
    assert again.again == {}


def test_who_joins_a_draining_container_drains_with_it() -> None:
    heard = Heard()
    keys = [heard.id("bridge"), heard.id("joined")]
    heard("bridge")
    heard("joined")
    update = heard.book.killed(keys[0], "15", NOW)
    assert sorted(update.objects) == sorted(update.again) == sorted(keys)
    assert heard.states("bridge", "joined") == [State.DRAINING] * 2
    assert heard("joined", now=NOW + 12).objects[keys[1]][0].state is State.RUNNING


def test_who_joined_one_that_ended_is_only_cut_off() -> None:
    heard = Heard()
    keys = [heard.id("bridge"), heard.id("joined")]
    heard("bridge")
    heard("joined")
    heard.book.killed(keys[0], "15", NOW)
    heard.book.died(keys[0], heard.asked)
    (joined,) = heard("joined").objects[keys[1]]
    assert (joined.state, joined.addresses) == (State.RUNNING, ())


def test_a_death_is_believed_before_any_inspect() -> None:
    heard = Heard()
    loose, joined = heard.id("bridge"), heard.id("joined")
    heard("bridge")
    heard("joined")
    heard.book.killed(loose, "15", NOW)
    update = heard.book.died(loose, 50)
    (dead,) = update.objects[loose]
    assert (dead.state, dead.addresses) == (State.STOPPED, ())
    assert [m.network for m in dead.memberships] == ["bridge"]
    assert update.look == (joined,)
    assert heard.book.died(loose, 51) == Update()
    # an answer that was on its way still says that it runs, and comes too late
    assert heard("bridge", asked=49) == Update()
    assert heard("bridge", asked=52).objects[loose][0].state is State.RUNNING


def test_an_unknown_network_is_asked_for_once_and_then_its_containers_again() -> None:
    heard = Heard()
    heard.book.set_networks(NetworkMap(), 1)
    assert heard("created").networks
    assert not heard("created").networks
    assert heard("plain").networks
    assert not heard("alone", NetworkSettings={"Networks": {}}).networks
    assert heard.book.set_networks(networks("engine-20"), 0) == Update()  # an older answer
    look = heard.book.set_networks(networks("engine-26"), 2).look
    assert sorted(look) == sorted([heard.id("created"), heard.id("plain")])
    created = heard("created").objects[heard.id("created")][0]
    assert created.network_ids < {n.id for n in networks("engine-26").networks}
    assert heard.book.set_networks(networks("engine-26"), 3) == Update()
