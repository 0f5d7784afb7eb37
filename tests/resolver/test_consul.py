"""Names under ``.consul`` where no agent has to be asked what it says: states of the catalog, odd names.

That the answers are Consul's own is tests/real/test_consul_names.py's to show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given as each
from hypothesis import settings
from hypothesis import strategies as st

from discoverd.catalog import Catalog, Endpoint, Lookup, Node, Status, node_key, service_key
from discoverd.resolver.consul import ConsulNames, parse
from discoverd.resolver.outcome import (
    AAAA,
    ANY,
    PTR,
    SRV,
    TXT,
    A,
    Answer,
    Fail,
    Later,
    NameData,
    NoData,
    NotOurs,
    NxDomain,
    Question,
    TxtData,
)

if TYPE_CHECKING:
    from discoverd.resolver.outcome import Outcome

NODE = Node("n1", "192.0.2.1", "dc1")


def endpoint(ident: str, **more: Any) -> Endpoint:
    given: dict[str, Any] = {"node": NODE, "id": ident, "service": "web", "address": "10.0.0.1"} | more
    return Endpoint(**given)


def catalog_of(*endpoints: Endpoint, nodes: tuple[Node, ...] = (NODE,)) -> Catalog:
    catalog = Catalog()
    catalog.home, catalog.datacenters = "dc1", frozenset({"dc1", "dc2"})
    catalog.follow("dc1").synced = True
    catalog.set_service("dc1", "web", endpoints)
    catalog.set_nodes("dc1", {node.name.lower(): node for node in nodes})
    return catalog


def ask(catalog: Catalog, name: str, rtype: int = A, *, only_passing: bool = False) -> Outcome:
    return ConsulNames(catalog, only_passing=only_passing, clock=lambda: 17).resolve(Question(name, rtype))


def data(outcome: Outcome) -> list[str]:
    assert isinstance(outcome, Answer)
    return [str(record.data) for record in outcome.records]


def test_before_the_agent_was_reached_nothing_is_denied() -> None:
    assert isinstance(ask(Catalog(), "web.service.consul"), Fail)
    catalog = catalog_of(endpoint("a"))
    catalog.follow("dc1").synced = False
    assert isinstance(ask(catalog, "web.service.consul"), Fail)
    assert isinstance(ask(catalog, "nope.service.consul"), Fail)
    assert isinstance(ask(catalog, "n1.node.consul"), Fail)
    assert data(ask(catalog, "0a000001.addr.consul")) == ["10.0.0.1"], "an address is in its own name"


def test_other_datacenters_are_asked_or_denied() -> None:
    catalog = catalog_of(endpoint("a"))
    assert ask(catalog, "v1.web.service.dc2.consul") == Later(Lookup("service", "web", "dc2", "v1"))
    assert ask(catalog, "a.b.node.dc2.consul") == Later(Lookup("node", "a.b", "dc2"))
    assert isinstance(ask(catalog, "web.service.dc3.consul"), NxDomain)


@pytest.mark.parametrize("kind", ["query", "connect", "ingress"])
def test_what_only_the_agent_knows_is_left_to_it(kind: str) -> None:
    assert ask(catalog_of(), f"web.{kind}.consul") == Later(Lookup(kind, "web", "dc1"))


def test_answers_rest_on_their_service_in_its_datacenter() -> None:
    told: list[str] = []
    catalog = catalog_of(endpoint("a"))
    catalog.subscribe(told.extend)
    outcome = ask(catalog, "v1.web.service.consul")
    assert isinstance(outcome, NxDomain)
    assert outcome.depends == (service_key("dc1", "web"),)
    catalog.set_service("dc1", "web", ())
    assert told == [service_key("dc1", "web")]
    told.clear()
    moved = Node("n1", "192.0.2.9", "dc1")
    catalog.set_nodes("dc1", {"n1": moved, "n2": Node("n2", "192.0.2.2", "dc1")})
    assert set(told) == {node_key("dc1", "n1"), node_key("dc1", "n2")}
    told.clear()
    catalog.set_nodes("dc1", {"n1": moved, "n2": Node("n2", "192.0.2.2", "dc1")})
    assert told == []


def test_only_passing() -> None:
    catalog = catalog_of(
        endpoint("a", status=Status.WARNING), endpoint("b", address="10.0.0.2"),
        endpoint("c", address="10.0.0.3", status=Status.CRITICAL),
        endpoint("d", address="10.0.0.4", status=Status.MAINTENANCE),
    )  # fmt: skip
    assert data(ask(catalog, "web.service.consul")) == ["10.0.0.1", "10.0.0.2"]
    assert data(ask(catalog, "web.service.consul", only_passing=True)) == ["10.0.0.2"]


def test_names_that_lead_in_circles_end() -> None:
    catalog = catalog_of(endpoint("a", address="other.service.consul"))
    catalog.set_service("dc1", "other", (endpoint("b", service="other", address="web.service.consul"),))
    outcome = ask(catalog, "web.service.consul")
    assert isinstance(outcome, Answer)
    assert outcome.depends == (), "it rests on names that it does not tell"
    assert len(outcome.records) < 10
    assert isinstance(ask(catalog, "web.service.consul", SRV), Answer)


def test_long_metadata_is_cut_into_strings() -> None:
    catalog = catalog_of(nodes=(Node("n1", "192.0.2.1", "dc1", (("k", "x" * 512), ("rfc1035-t", ""))),))
    outcome = ask(catalog, "n1.node.consul", TXT)
    assert isinstance(outcome, Answer)
    assert [record.data for record in outcome.records] == [
        TxtData((b"k=" + b"x" * 253, b"x" * 255, b"x" * 4)),
        TxtData((b"",)),
    ]


def test_a_nodes_address_has_its_name_unless_somebody_knows_better() -> None:
    names = ConsulNames(catalog_of())
    question = Question("1.2.0.192.in-addr.arpa", PTR)
    outcome = names.reverse(question, NotOurs())
    assert isinstance(outcome, Answer)
    assert [record.data for record in outcome.records] == [NameData("n1.node.dc1.consul")]
    better = Answer(outcome.records, depends=("x",))
    assert names.reverse(question, better) is better
    assert isinstance(names.reverse(Question("9.2.0.192.in-addr.arpa", PTR), NotOurs()), NotOurs)
    assert isinstance(names.reverse(Question("1.2.0.192.in-addr.arpa", A), NotOurs()), NotOurs)
    assert isinstance(names.reverse(Question("x.in-addr.arpa", PTR), NotOurs()), NotOurs)
    assert isinstance(ConsulNames(Catalog()).reverse(question, NotOurs()), NotOurs)


def test_no_name_server_is_known_before_the_servers_are() -> None:
    assert isinstance(ask(catalog_of(), "consul", 2), Fail)


LABEL = st.one_of(
    st.sampled_from(
        ["service", "node", "addr", "query", "connect", "_web", "_tcp", "web", "dc1", "dc2", "n1"]
    ),
    st.text(alphabet="ab_-\\046\xfc", min_size=1, max_size=10),
)


@settings(deadline=None)  # other work on the machine is no fault
@each(st.lists(LABEL, max_size=8), st.sampled_from([A, AAAA, SRV, TXT, ANY, PTR, 15]))
def test_any_name_has_an_outcome(labels: list[str], rtype: int) -> None:
    name = ".".join([*labels, "consul"])
    outcome = ask(catalog_of(endpoint("a")), name, rtype)
    assert isinstance(outcome, Answer | NoData | NxDomain | Later)
    lookup = parse(Question(name, rtype), "dc1")
    assert lookup is None or lookup.name
