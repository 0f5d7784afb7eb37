"""Whatever an engine, or something that poses as one, may send: no exception but the agreed one."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from discoverd.naming import to_name
from discoverd.sources.docker.book import Book
from discoverd.sources.docker.labels import PREFIX
from discoverd.sources.docker.listing import fingerprints
from discoverd.sources.docker.networks import parse_networks
from discoverd.sources.docker.parse import parse_container
from discoverd.sources.docker.stream import Batch, note
from tests.sources.docker.recorded import ENGINES, SETTINGS, labelled, load, names, networks

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
recordings = st.sampled_from([(engine, name) for engine in ENGINES for name in names(engine)])
words = st.sampled_from(
    [
        "enable",
        "name",
        "service",
        "port",
        "ports",
        "tags",
        "ttl",
        "weight",
        "network",
        "scope",
        "meta.",
        "meta.a",
    ]
)


def spoil(value: Any, data: st.DataObject, depth: int = 0) -> Any:
    """Put something else in one place of a document."""
    if isinstance(value, dict) and value and (depth == 0 or data.draw(st.booleans())):
        key = data.draw(st.sampled_from(sorted(value)))
        return {**value, key: spoil(value[key], data, depth + 1)}
    if isinstance(value, list) and value and data.draw(st.booleans()):
        return [spoil(value[0], data, depth + 1), *value[1:]]
    return data.draw(json_values)


@settings(max_examples=300, deadline=None)
@given(recordings, st.data())
def test_a_spoilt_inspect(recording: tuple[str, str], data: st.DataObject) -> None:
    doc = load(*recording)
    for _ in range(data.draw(st.integers(1, 4))):
        doc = spoil(doc, data)
    book = Book(SETTINGS)
    with contextlib.suppress(ValueError):
        book.heard(doc, 1, 0.0)
    for main, *_ in book.objects().values():
        assert main.service
        assert all(to_name(name) == name for name in main.own_names)
        assert all(to_name(name) == name for m in main.memberships for name in m.aliases)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(words, st.text(max_size=30) | st.text("0123456789=/,.*-_ax", max_size=12), max_size=6),
    st.data(),
)
def test_labels_never_break_a_containers_own_names(labels: dict[str, str], data: st.DataObject) -> None:
    env = data.draw(
        st.lists(st.sampled_from(["SERVICE_NAME", "SERVICE_80_NAME", "SERVICE_", "X"]), max_size=3)
    )
    text = data.draw(st.text(max_size=10))
    found = labelled(
        {PREFIX + key: value for key, value in labels.items()}, tuple(f"{key}={text}" for key in env)
    )
    for instance in found.instances[:1]:
        assert instance.own_names == ("registrator",)
    for instance in found.instances:
        assert to_name(instance.service) == instance.service
        assert all(to_name(name, wildcard=True) == name for name in instance.extra_names)
        assert 0 <= instance.weight <= 65535
        assert all(0 < port.port < 65536 for port in instance.ports)
    assert all("\n" not in line and "\x00" not in line for line in found.notes)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(ENGINES), st.data())
def test_spoilt_lists(engine: str, data: st.DataObject) -> None:
    listed = [doc for doc in (spoil(d, data) for d in load(engine, "list")) if isinstance(doc, dict)]
    assert all(isinstance(hash(sign), int) for sign in fingerprints(listed).values())
    docs = [doc for doc in (spoil(d, data) for d in load(engine, "networks")) if isinstance(doc, dict)]
    known = parse_networks(docs, "local")
    assert len({n.id for n in known.networks}) <= len(docs)
    for name in names(engine):
        assert parse_container(load(engine, name), SETTINGS, known).id


@given(json_values, json_values, json_values)
def test_any_event(kind: Any, actor: Any, attributes: Any) -> None:
    batch = Batch()
    wanted = note({"Type": kind, "Action": kind, "Actor": {"ID": actor, "Attributes": attributes}}, batch)
    assert wanted is (batch != Batch())
    assert note({"Type": "container", "Actor": actor, "Action": kind}, batch) in {True, False}


def test_the_recordings_themselves_are_what_they_were() -> None:
    assert len(names("engine-20")) == len(names("engine-26")) >= 20
    assert all(networks(engine).networks for engine in ENGINES)
