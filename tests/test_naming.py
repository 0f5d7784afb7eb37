from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoverd.naming import MAX_LABEL, MAX_NAME, Above, Kind, ancestors, bindings, to_label, to_name
from tests.build import container, short, static, unhurried

if TYPE_CHECKING:
    from discoverd.model import Instance

LABEL = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9_])?")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("web", "web"),
        ("Web-01", "web-01"),
        ("my_app", "my_app"),
        ("a b/c", "a-b-c"),
        ("a  //  b", "a-b"),
        ("grüße", "gr-e"),
        ("-web-", "web"),
        ("_web", "web"),
        ("_-_web", "web"),
        ("-_-", None),
        ("web_", "web_"),
        ("...", None),
        ("", None),
        ("日本", None),
        ("a.b", "a-b"),
        ("*", None),
        ("x" * 63, "x" * 63),
    ],
)
def test_labels_are_made_of_any_text(text: str, label: str | None) -> None:
    assert to_label(text) == label


def test_what_is_too_long_is_cut_and_stays_distinct() -> None:
    one, other = to_label("x" * 64), to_label("x" * 65)
    assert one is not None
    assert other is not None
    assert one != other
    assert len(one) == len(other) == MAX_LABEL
    assert one.startswith("x" * 54 + "-")
    assert to_label("X" * 64) == one, "names differ by more than letter case"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a.b", "a.b"),
        ("A.B.", "a.b"),
        (" a.b ", "a.b"),
        ("a b.c d", "a-b.c-d"),
        ("a..b", None),
        ("*.a", None),
        ("", None),
        (".", None),
        (".".join(["x" * 59] * 3), ".".join(["x" * 59] * 3)),
        (".".join(["x" * 60] * 3), None),
    ],
)
def test_names_are_made_label_by_label(text: str, name: str | None) -> None:
    assert to_name(text) == name


@pytest.mark.parametrize(
    ("text", "name"), [("*.a", "*.a"), ("*.A.b", "*.a.b"), ("*", None), ("a.*", None), ("*.*.a", None)]
)
def test_a_wildcard_is_a_first_label_that_others_follow(text: str, name: str | None) -> None:
    assert to_name(text, wildcard=True) == name


any_text = st.text(st.characters(codec=None), max_size=200)


@unhurried
@given(any_text)
def test_a_label_is_always_fit_and_made_once(text: str) -> None:
    label = to_label(text)
    if label is None:
        assert not re.search("[a-z0-9]", text.lower())
    else:
        assert LABEL.fullmatch(label)
        assert len(label) <= MAX_LABEL
        assert to_label(label) == label
        assert to_label(text.swapcase()) is not None


@unhurried
@given(st.one_of(any_text, st.from_regex(r"(\*\.)?([a-zA-Z0-9 _.-]{1,70}\.){0,4}", fullmatch=True)))
def test_a_name_is_always_fit_and_made_once(text: str) -> None:
    name = to_name(text, wildcard=True)
    if name is not None:
        assert len(name) <= MAX_NAME
        assert all(LABEL.fullmatch(label) for label in name.removeprefix("*.").split("."))
        assert to_name(name, wildcard=True) == name


WEB = container("web", 2, ("shop_default", "www"), "edge", project="shop")


def kinds(instance: Instance) -> dict[str, Kind]:
    return {name: binding.kind for name, binding in bindings(instance).items()}


def test_a_compose_container_answers_to_all_of_its_names() -> None:
    both = ("shop-web-2", "shop_web_2")
    web = container("web", 2, ("shop_default", "www"), "edge", project="shop", own_names=both)
    digits = short("shop-web-2")
    on_networks = {
        f"{name}.{network}": Kind.NETWORK
        for name, network in (
            *((n, "shop_default") for n in ("web", "www", *both, digits)),
            *((n, "edge") for n in ("web", *both, digits)),
        )
    }
    assert kinds(web) == {
        "web": Kind.SERVICE,
        "web.shop": Kind.SCOPED,
        "2.web.shop": Kind.REPLICA,
        "shop-web-2": Kind.OWN,
        "shop_web_2": Kind.OWN,
        "www": Kind.ALIAS,
        "www.shop": Kind.SCOPED_ALIAS,
        digits: Kind.ID,
        **on_networks,
    }


def test_a_name_on_a_network_counts_its_addresses_there_only() -> None:
    made = bindings(WEB)
    assert made["web.edge"].network_id == "docker/test/edge"
    assert made["www.shop_default"].network_id == "docker/test/shop_default"
    assert made["web"].network_id == made["web.shop"].network_id == ""


def test_a_projects_network_goes_by_its_name_in_the_file_too() -> None:
    """But not its default network: each project has one."""
    web = container("web", 2, "shop_default", "backend", project="shop")
    default, backend = web.memberships
    web = replace(web, memberships=(replace(default, short="default"), replace(backend, short="inner")))
    made = bindings(web)
    assert (made["web.inner"].kind, made["web.inner"].network_id) == (
        Kind.SHORT_NETWORK,
        "docker/test/backend",
    )
    assert made["shop-web-2.inner"].kind is Kind.SHORT_NETWORK
    assert made["web.backend"].kind is Kind.NETWORK
    assert "web.default" not in made


def test_a_container_without_labels_goes_by_its_name_aliases_and_id() -> None:
    alone = container("cache", 3, ("edge", "redis"))
    assert {n for n in kinds(alone) if not n.endswith(".edge")} == {"cache", "redis", short("cache")}


def test_a_one_off_goes_by_its_container_name_and_id_only() -> None:
    name = "shop-web-run-0a1b"
    once = container(
        "web",
        9,
        ("edge", "www"),
        project="shop",
        name=name,
        in_service=False,
        hostname="h",
        tags=("v1",),
    )
    assert kinds(once) == {
        name: Kind.OWN,
        short(name): Kind.ID,
        f"{name}.edge": Kind.NETWORK,
        f"{short(name)}.edge": Kind.NETWORK,
    }


def test_hostname_tags_and_given_names() -> None:
    made = kinds(static("web", "192.0.2.1", hostname="h.x", tags=("V 1", "--"), extra_names=("a", "*.b.c")))
    assert made == {
        "web": Kind.SERVICE,
        "h.x": Kind.HOSTNAME,
        "v-1.web": Kind.TAG,
        "a": Kind.EXTRA,
        "*.b.c": Kind.EXTRA,
        "web-192-0-2-1": Kind.ID,
    }


def test_tags_go_before_the_scoped_name_too() -> None:
    assert kinds(static("web", "192.0.2.1", scope="shop", tags=("v1",))).keys() >= {"v1.web", "v1.web.shop"}


def test_a_replica_without_a_scope_is_found_by_number() -> None:
    assert kinds(static("api", "192.0.2.1", replica=3))["3.api"] is Kind.REPLICA


def test_a_network_called_like_the_project_does_not_hide_it() -> None:
    made = bindings(container("web", 1, "shop", "edge", project="shop"))
    assert made["web.shop"].kind is Kind.SCOPED
    assert made["web.shop"].network_id == ""


def test_an_id_goes_before_any_other_claim_of_the_same_instance() -> None:
    same = static("web", "192.0.2.1", unique="web")
    assert kinds(same) == {"web": Kind.ID}


def test_networks_whose_names_are_no_labels_give_no_names() -> None:
    web = static("web", "192.0.2.1", memberships=(), unique="")
    odd = container("web", 1, "edge")
    odd_member = odd.memberships[0].__class__("???", "x")
    made = kinds(static("web", "192.0.2.1", memberships=(odd_member,), unique=""))
    assert made == kinds(web) == {"web": Kind.SERVICE}


def test_the_names_above_come_nearest_first() -> None:
    assert list(ancestors("a.b.c")) == ["b.c", "c"]
    assert list(ancestors("a")) == []


def test_names_above_are_there_while_something_is_below() -> None:
    above = Above()
    assert above.add("a.b.c") == {"b.c", "c"}
    assert above.add("x.c") == set()
    assert "c" in above
    assert above.remove("a.b.c") == {"b.c"}
    assert "c" in above
    assert above.remove("x.c") == {"c"}
    assert "c" not in above
