"""What keeps kept answers right: no answer changes unless a name that it rests on was touched."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from discoverd.model import Link
from discoverd.resolver.explain import TYPES
from discoverd.resolver.local import Settings
from discoverd.resolver.outcome import NoData, NxDomain, Question, SoaData
from discoverd.resolver.select import Policy
from discoverd.views import ELSEWHERE, HOST, Place, View
from tests.build import ENGINE, World, unhurried
from tests.strategies import instances

if TYPE_CHECKING:
    from discoverd.model import Instance
    from discoverd.registry import Change
    from discoverd.resolver.outcome import Outcome

RELATIVE = [
    *("web", "db", "shop", "www", "talkto", "a", "ns", "nothing"),
    *("web.shop", "db.shop", "web.blog", "web.web", "www.shop", "shop.shop", "x.nothing", "all", "v1.web"),
    *("all.web", "all.db", "all.web.shop", "all.nothing", "all.all.web", "1.web.shop", "2.web", "2.web.shop"),
    *("web.edge", "db.edge", "www.edge", "shop-web-1.edge", "unique-a.edge", "web.shop-default"),
    *("*.a", "b.a", "y.a", "x.b.a", "y.b.a", "z.y.b.a", "shop-web-1", "unique-a", "unique-b", "a.unique-a"),
    *("_http._tcp.web", "_80._tcp.all.web", "_tcp.web", "_udp.db", "_ui._tcp.db", "_domain._udp.web.shop"),
    *("_9._tcp.web", "_http._tcp.y.a", "_http._tcp.talkto", "_tcp.nothing", "_http._tcp.web.edge"),
    *("unique-a._http._tcp", "unique-b._ui._tcp", "unique-a._http-alt._tcp", "x._http._tcp"),
]
ADDRESSES = [f"{d}.0.{n}.10" for d in (2, 3, 4) for n in (1, 3, 6)]
NAMES = [
    *(f"{name}.docker" for name in RELATIVE),
    *(f"{name}.eu.docker" for name in ("web", "all.web")),
    *RELATIVE,
    *(f"{address}.in-addr.arpa" for address in (*ADDRESSES, "1.2.0.192", "9.9.9.9", "9.9.3.10")),
]
EDGE, SHOP = f"{ENGINE}/edge", f"{ENGINE}/shop_default"
VIEWS = [
    HOST,
    ELSEWHERE,
    View(Place.NETWORK, frozenset({EDGE})),
    View(Place.NETWORK, frozenset({EDGE, SHOP}), scope="shop"),
    View(Place.NETWORK, frozenset({SHOP}), scope="blog"),
    View(Place.NETWORK, frozenset({EDGE}), (Link("talkto", "shop-web-1"), Link("db", "a")), ENGINE),
]
SETTINGS = [
    Settings(domains=("docker", "eu.docker"), policy=Policy(strict, fail_open))
    for strict in (False, True)
    for fail_open in (False, True)
]

#: An id with what is said of it from now on (None: it is gone), or seconds that pass.
steps = st.one_of(
    instances().map(lambda i: (i.id, i)),
    st.sampled_from("abc").map(lambda ident: (ident, None)),
    st.sampled_from([10.0, 299.0, 301.0]),
)


def plain(outcome: Outcome) -> Outcome:
    """An outcome without the serial number, which counts changes of anything."""
    if not isinstance(outcome, NoData | NxDomain):
        return outcome
    assert isinstance(outcome.soa.data, SoaData)
    return replace(outcome, soa=replace(outcome.soa, data=replace(outcome.soa.data, serial=0)))


@unhurried
@given(
    st.lists(instances(), max_size=4),
    st.lists(steps, min_size=1, max_size=4),
    st.sampled_from(SETTINGS),
    st.sampled_from(["A", "AAAA", "SRV", "TXT", "ANY", "MX", "PTR"]),
)
def test_an_answer_stays_right_while_what_it_rests_on_is_not_touched(
    first: list[Instance], then: list[tuple[str, Instance | None] | float], settings: Settings, wanted: str
) -> None:
    world = World(*first, settings=settings)
    touched: set[str] = set()

    def note(change: Change) -> None:
        assert not change.everything
        touched.update(change.names, (address.reverse_pointer for address in change.addresses))

    world.registry.subscribe(note)
    questions = [(Question(name, TYPES[wanted]), view) for name in NAMES for view in VIEWS]
    kept = {asked: world.local.resolve(*asked) for asked in questions}
    for step in then:
        touched.clear()
        if isinstance(step, float):
            world.pass_time(step)
        else:
            ident, instance = step
            world.writer(ENGINE).publish(ident, [instance] if instance else [])
        for asked, before in kept.items():
            after = kept[asked] = world.local.resolve(*asked)
            depends = getattr(before, "depends", ())
            if depends and touched.isdisjoint(depends):
                assert plain(after) == plain(before), f"{asked[0].name}: rests on {depends}"


@unhurried
@given(st.lists(st.one_of(steps, st.just(("a", None))), max_size=8))
def test_a_name_exists_for_five_minutes_after_it_was_last_somebodys(
    then: list[tuple[str, Instance | None] | float],
) -> None:
    """No NXDOMAIN for what was there a moment ago, nor for what is above it; afterwards it is forgotten."""
    world = World()
    names = world.registry.names
    until: dict[str, float] = {}
    for step in then:
        if isinstance(step, float):
            world.pass_time(step)
        else:
            until |= {each: world.now + 300.0 for name in names.bound() for each in with_above(name)}
            world.writer(ENGINE).publish(step[0], [step[1]] if step[1] else [])
        there = {each for name in names.bound() for each in with_above(name)}
        for name in until.keys() | there | set(RELATIVE):
            assert (name in names) == (name in there or until.get(name, 0.0) > world.now), name


def with_above(name: str) -> list[str]:
    labels = name.split(".")
    return [".".join(labels[i:]) for i in range(len(labels))]
