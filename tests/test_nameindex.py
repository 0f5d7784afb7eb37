from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoverd import nameindex
from discoverd.nameindex import GONE_SECONDS, NameIndex, merged
from discoverd.naming import Kind
from tests.build import container, short, static, unhurried

if TYPE_CHECKING:
    from discoverd.model import Instance
    from discoverd.nameindex import Found


class Index:
    """A name index with a clock that is set by hand."""

    def __init__(self, *instances: Instance) -> None:
        self.now = 0.0
        self.names = NameIndex(lambda: self.now)
        self.names.swap((), instances)

    def put(self, *instances: Instance) -> set[str]:
        return self.names.swap((), instances)

    def remove(self, *instances: Instance) -> set[str]:
        return self.names.swap(instances, ())

    def expire(self, seconds: float = GONE_SECONDS) -> set[str]:
        self.now += seconds
        return self.names.expire()

    def ids(self, name: str) -> list[str]:
        return ids(self.names.find(name))


def ids(found: Found) -> list[str]:
    return [binding.instance.id for binding in found.bindings]


WEB1 = container("web", 1, "edge", project="shop")
WEB2 = container("web", 2, "edge", project="shop")
OTHER = container("web", 1, "blog_default", project="blog")


def test_instances_come_in_a_stable_order_by_scope_and_number() -> None:
    index = Index(WEB2, OTHER, WEB1)
    assert index.ids("web") == ["blog-web-1", "shop-web-1", "shop-web-2"]
    index.remove(WEB1)
    index.put(WEB1)
    assert index.ids("web") == ["blog-web-1", "shop-web-1", "shop-web-2"]


def test_names_between_exist_and_are_empty() -> None:
    index = Index(WEB1)
    assert "shop" in index.names
    found = index.names.find("shop")
    assert found.exists
    assert not found.bindings
    assert not found.gone


def test_unknown_names_do_not_exist() -> None:
    index = Index(WEB1)
    for name in ("shopp", "x.web", "3.web.shop", "web.blog", ""):
        assert not index.names.find(name).exists
        assert name not in index.names


def test_an_id_goes_before_whatever_else_has_that_name() -> None:
    impostor = static("x", "192.0.2.1", extra_names=(short("shop-web-1"),))
    index = Index(WEB1, impostor)
    assert index.ids(short("shop-web-1")) == ["shop-web-1"]
    index.remove(WEB1)
    assert index.ids(short("shop-web-1")) == [impostor.id]


def test_a_tag_gives_way_to_a_scope_of_that_name() -> None:
    tagged = static("shop", "192.0.2.1", tags=("web",))
    index = Index(tagged)
    assert index.ids("web.shop") == [tagged.id]
    index.put(WEB1)
    assert index.ids("web.shop") == ["shop-web-1"]


def test_a_tag_gives_way_to_a_replica_of_that_name() -> None:
    tagged = static("web", "192.0.2.1", scope="shop", tags=("2",))
    index = Index(tagged, WEB2)
    assert index.ids("2.web.shop") == ["shop-web-2"]


def test_a_network_called_like_another_project_adds_nothing_to_it() -> None:
    intruder = container("web", 9, "shop", project="blog")
    index = Index(intruder)
    assert index.ids("web.shop") == ["blog-web-9"]
    index.put(WEB1)
    assert index.ids("web.shop") == ["shop-web-1"]


def test_all_finds_the_members_of_a_service() -> None:
    index = Index(WEB1, OTHER, container("x", 3, ("edge", "web")))
    found = index.names.find("all.web")
    assert ids(found) == ["blog-web-1", "shop-web-1"]
    assert found.any_health
    assert index.ids("all.web.shop") == ["shop-web-1"]
    assert set(found.depends) == {"all.web", "web", "tasks.web"}


@pytest.mark.parametrize("name", ["all.shop-web-1", "all.nothing", "all", "all.shop", "all.all.web"])
def test_all_is_of_services_only(name: str) -> None:
    assert not Index(WEB1).names.find(name).exists


def test_all_goes_before_a_tag_and_behind_a_name_that_somebody_gave() -> None:
    tagged = static("web", "192.0.2.1", tags=("all",))
    index = Index(WEB1, tagged)
    assert index.names.find("all.web").any_health
    named = static("x", "192.0.2.2", extra_names=("all.web",))
    index.put(named)
    assert index.ids("all.web") == [named.id]


def test_all_rests_on_its_service_also_where_it_is_but_between() -> None:
    index = Index(static("x", "192.0.2.1", extra_names=("x.all.web",)))
    found = index.names.find("all.web")
    assert found.exists
    assert not found.bindings
    assert set(found.depends) == {"all.web", "web"}
    index.put(WEB1)
    assert index.ids("all.web") == ["shop-web-1"]


def test_a_covered_name_rests_on_all_between_it_and_its_wildcard() -> None:
    found = Index(WILD).names.find("one.two.a")
    assert set(found.depends) == {"one.two.a", "two.a", "a", "*.a"}
    assert set(Index().names.find("one.two").depends) == {"one.two", "two", "*"}


WILD = static("wild", "192.0.2.1", extra_names=("*.a", "x.b.a"))


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("one.a", True),
        ("two.one.a", True),
        ("*.a", True),
        ("a", False),  # the wildcard's own parent is between
        ("b.a", False),  # exists, because x.b.a does
        ("y.b.a", False),  # its closest encloser is b.a, which has no wildcard
        ("y.x.b.a", False),
        ("one.c", False),
    ],
)
def test_wildcards_cover_what_does_not_exist(name: str, covered: bool) -> None:
    """RFC 4592 section 3.3.1: the wildcard of the closest encloser, and no other."""
    assert bool(Index(WILD).ids(name)) == covered


def test_how_many_wildcards_there_are_is_counted() -> None:
    index = Index(WILD)
    assert index.names.wildcards == 1
    index.put(static("w", "192.0.2.2", extra_names=("*.a",)))
    assert index.names.wildcards == 1
    index.remove(WILD)
    assert index.names.wildcards == 1
    index.remove(static("w", "192.0.2.2", extra_names=("*.a",)))
    assert index.names.wildcards == 0


def test_a_name_outlives_its_last_instance_for_minutes() -> None:
    index = Index(WEB1)
    assert index.remove(WEB1) >= {"web", "web.shop", "shop", short("shop-web-1")}
    found = index.names.find("web.shop")
    assert found.exists
    assert not found.bindings
    assert [(g.service, g.scope, g.kind) for g in found.gone] == [("web", "shop", Kind.SCOPED)]
    assert index.expire(GONE_SECONDS - 1) == set()
    assert index.names.find("web.shop").exists
    assert index.expire(1) >= {"web", "web.shop", "shop"}
    assert not index.names.find("web.shop").exists
    assert "shop" not in index.names


def test_what_is_above_a_name_that_is_gone_exists_as_well() -> None:
    """RFC 8020: an NXDOMAIN for ``shop`` would deny ``web.shop`` along with it."""
    index = Index(WEB1)
    index.remove(WEB1)
    assert index.names.find("shop").exists
    assert index.names.find("edge").exists


def test_a_name_that_is_gone_encloses_nothing() -> None:
    """A wildcard takes over at once from what it covers."""
    special = static("s", "192.0.2.2", extra_names=("b.a",))
    index = Index(static("wild", "192.0.2.1", extra_names=("*.a",)), special)
    assert index.ids("b.a") == [special.id]
    index.remove(special)
    assert index.ids("b.a") == index.ids("x.b.a") == ["wild-192-0-2-1"]
    assert index.names.find("b.a").gone


def test_a_name_that_an_instance_no_longer_has_is_remembered_too() -> None:
    """Renamed, relabelled, disconnected: the clients of the old name are the same."""
    old = static("web", "192.0.2.1", extra_names=("www",))
    index = Index(old)
    index.names.swap([old], [static("web", "192.0.2.1")])
    assert index.names.find("www").exists
    assert not index.names.find("web").gone


def test_who_is_replaced_by_another_is_remembered() -> None:
    """One sync may bring another project's ``web`` in the same moment as this one's goes."""
    index = Index(WEB1)
    index.names.swap([WEB1], [OTHER])
    assert [g.scope for g in index.names.find("web").gone] == ["shop"]


def test_a_name_that_comes_back_keeps_the_memory_of_others() -> None:
    index = Index(WEB1, OTHER)
    index.remove(OTHER)
    found = index.names.find("web")
    assert ids(found) == ["shop-web-1"]
    assert [g.scope for g in found.gone] == ["blog"]


def test_memory_is_bounded_and_says_what_it_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nameindex, "GONE_MOST", 4)
    many = [static(f"s{i}", f"192.0.2.{i}", unique="") for i in range(6)]
    index = Index(*many)
    touched = [index.remove(instance) for instance in many]
    assert [index.names.find(f"s{i}").exists for i in range(6)] == [False, False, True, True, True, True]
    assert touched[4] == {"s4", "s0"}
    assert touched[5] == {"s5", "s1"}


def test_a_name_that_goes_again_is_remembered_from_then_on() -> None:
    index = Index(WEB1)
    index.remove(WEB1)
    index.expire(GONE_SECONDS - 1)
    index.put(WEB1)
    index.remove(WEB1)
    index.expire(GONE_SECONDS - 1)
    assert index.names.find("web").exists
    index.expire(1)
    assert not index.names.find("web").exists


def test_each_name_is_forgotten_in_its_own_time() -> None:
    index = Index(WEB1, OTHER)
    index.remove(WEB1)
    index.expire(100)
    index.remove(OTHER)
    index.put(WEB1)
    index.expire(100)
    index.remove(WEB1)
    index.expire(GONE_SECONDS - 100)
    assert [index.names.find(name).exists for name in ("web.shop", "web.blog")] == [True, False]


def test_only_names_above_that_come_or_go_are_touched() -> None:
    index = Index(WEB1)
    assert "shop" not in index.put(WEB2)
    deep = static("x", "192.0.2.1", extra_names=("x.y.z",))
    assert index.put(deep) >= {"x.y.z", "y.z", "z"}
    index.remove(deep)
    assert index.expire() >= {"x.y.z", "y.z", "z"}


numbers = st.lists(st.integers(0, 9), max_size=60)


@unhurried
@given(numbers, st.data())
def test_merging_is_sorting(old: list[int], data: st.DataObject) -> None:
    """By bisection or all anew: the outcome is the same, duplicates included."""
    leaving = data.draw(st.permutations(old).map(lambda p: p[: len(p) // data.draw(st.integers(1, 20))]))
    coming = data.draw(st.lists(st.integers(0, 9), max_size=8))
    expected = sorted(old)
    for number in leaving:
        expected.remove(number)
    made = merged(tuple(sorted(old)), leaving, coming, lambda n: (n,))
    assert made == tuple(sorted([*expected, *coming]))
