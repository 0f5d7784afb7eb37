from __future__ import annotations

import pytest

from discoverd.resolver.outcome import AAAA, A
from discoverd.resolver.records import MAX_TEXT, addresses, effective_ttl, text_strings
from discoverd.resolver.select import Chosen
from tests.build import HOST, World, container, negative, static, texts


def strings(*meta: tuple[str, str], tags: tuple[str, ...] = ()) -> list[str]:
    return [s.decode() for s in text_strings(static("web", "192.0.2.1", meta=meta, tags=tags))]


def test_metadata_is_key_and_value() -> None:
    assert strings(("path", "/"), ("a", ""), ("b", "x=y")) == ["path=/", "a=", "b=x=y"]


def test_tags_go_along_unless_there_is_metadata_of_that_name() -> None:
    assert strings(("a", "1"), tags=("v1", "blue")) == ["a=1", "tags=v1,blue"]
    assert strings(("Tags", "mine"), tags=("v1",)) == ["Tags=mine"]


@pytest.mark.parametrize("key", ["", "a=b", "é", "a\n", "\x7f"])
def test_what_is_no_key_is_left_out(key: str) -> None:
    """RFC 6763 section 6.4."""
    assert strings((key, "1"), ("a", "2")) == ["a=2"]


def test_a_key_counts_once_whatever_its_letter_case() -> None:
    assert strings(("A", "1"), ("a", "2")) == ["A=1"]


def test_what_is_too_long_for_a_string_is_left_out() -> None:
    assert [len(s) for s in strings(("a", "x" * 253))] == [255]
    assert strings(("a", "x" * 254), ("b", "1")) == ["b=1"]
    assert strings(("a", "é" * 127), ("b", "1")) == ["b=1"], "octets count, not characters"


def test_a_record_is_no_longer_than_a_message_holds() -> None:
    made = strings(*((f"k{n}", "x" * 200) for n in range(1000)))
    assert MAX_TEXT - 256 < sum(len(s) + 1 for s in made) <= MAX_TEXT


def test_text_that_is_no_unicode_is_mended() -> None:
    """JSON may hold halves of surrogate pairs."""
    assert strings(("a", "x\ud800y")) == ["a=x?y"]


def test_each_instance_has_its_record_where_they_differ() -> None:
    world = World(
        static("web", "192.0.2.1", meta=(("v", "1"),)),
        static("web", "192.0.2.2", meta=(("v", "1"),)),
        static("web", "192.0.2.3", meta=(("v", "2"), ("w", '"'))),
        static("web", "192.0.2.4"),
    )
    assert texts(world.ask("web.docker", "TXT")) == ['"v=1"', '"v=2" "w=\\""']
    assert negative(World(static("web", "192.0.2.1")).ask("web.docker", "TXT")) == ("NODATA", "docker", 5)


def test_only_who_is_served_says_something() -> None:
    near = container("web", 1, "edge", name="near", meta=(("v", "near"),))
    world = World(near, container("web", 2, "backend", name="far", meta=(("v", "far"),)))
    assert texts(world.ask("web.docker", "TXT", "10.3.0.99")) == ['"v=near"']
    assert sorted(texts(world.ask("web.docker", "TXT", HOST))) == ['"v=far"', '"v=near"']


def test_addresses_of_one_family_each_once_in_order() -> None:
    web = static("web", "192.0.2.2", "2001:db8::1", "192.0.2.1")
    chosen = [Chosen(web, web.addresses), Chosen(web, web.addresses[:1])]
    assert [str(r.data) for r in addresses(chosen, A, 5)] == ["192.0.2.2", "192.0.2.1"]
    assert [str(r.data) for r in addresses(chosen, AAAA, 5)] == ["2001:db8::1"]


def test_the_least_ttl_counts() -> None:
    a, b, c = (static("web", "192.0.2.1", ttl=ttl) for ttl in (60, None, 0))
    assert effective_ttl([], 5) == 5
    assert effective_ttl([a], 5) == 60
    assert effective_ttl([a, b], 5) == 5
    assert effective_ttl([a, b, c], 5) == 0
