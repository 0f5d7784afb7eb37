"""Replies to endpoints, endpoints to instances: what no test of a real agent comes across."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given as each
from hypothesis import settings
from hypothesis import strategies as st

from discoverd.catalog import Endpoint, Node, Status
from discoverd.model import Health, State
from discoverd.naming import bindings
from discoverd.sources.consul.adapter import Index
from discoverd.sources.consul.errors import AwayError
from discoverd.sources.consul.instances import Importer, unique_label
from discoverd.sources.consul.parse import Parser, status_of
from discoverd.sources.consul.poll import sum_up

NODE = Node("n1", "192.0.2.1", "dc1")
IMPORTER = Importer("consul", "dc1")


def entry(**service: Any) -> dict[str, Any]:
    return {
        "Node": {"Node": "n1", "Address": "192.0.2.1", "Datacenter": "dc1", "Meta": None},
        "Service": {"ID": "w", "Service": "web"} | service,
        "Checks": None,
    }


def check(status: str, name: str = "c") -> dict[str, str]:
    return {"CheckID": name, "Status": status}


def endpoint(**more: Any) -> Endpoint:
    given: dict[str, Any] = {"node": NODE, "id": "w", "service": "web"} | more
    return Endpoint(**given)


def test_null_stands_for_empty() -> None:
    (found,) = Parser().endpoints(
        [entry(Tags=None, Meta=None, TaggedAddresses=None, Weights=None, Address=None, Port=None)]
    )
    assert found == Endpoint(NODE, "w", "web")
    assert Parser().endpoints(None) == ()
    assert Parser().nodes(None) == {}


def test_equal_contents_are_equal_in_any_order() -> None:
    entries = [entry(ID="a"), entry(ID="b")]
    assert Parser().endpoints(entries) == Parser().endpoints(entries[::-1])


@pytest.mark.parametrize("reply", [{"a": 1}, ["x"], [{}], [{"Node": None, "Service": None}], 5])
def test_what_is_no_reply_is_a_fault_of_who_sent_it(reply: Any) -> None:
    with pytest.raises(ValueError, match="no entry of"):
        Parser().endpoints(reply)
    with pytest.raises(ValueError, match="no entry of"):
        Parser().nodes(reply)


@pytest.mark.parametrize(
    ("checks", "status"),
    [
        ([], Status.PASSING),
        ([check("passing"), check("warning")], Status.WARNING),
        ([check("warning"), check("critical"), check("passing")], Status.CRITICAL),
        ([check("critical", "_node_maintenance"), check("critical")], Status.MAINTENANCE),
        ([check("critical"), check("critical", "_service_maintenance:w")], Status.MAINTENANCE),
        ([check("passing", "_node_maintenance")], Status.PASSING),
        ([check("something new")], Status.WARNING),
    ],
)
def test_the_worst_check_counts(checks: list[dict[str, str]], status: Status) -> None:
    assert status_of(checks) is status


@pytest.mark.parametrize(
    ("status", "only_passing", "health", "state", "weight"),
    [
        (Status.PASSING, False, Health.HEALTHY, State.RUNNING, 7),
        (Status.WARNING, False, Health.HEALTHY, State.RUNNING, 2),
        (Status.WARNING, True, Health.UNHEALTHY, State.RUNNING, 2),
        (Status.CRITICAL, False, Health.UNHEALTHY, State.RUNNING, 7),
        (Status.MAINTENANCE, False, Health.UNHEALTHY, State.PAUSED, 7),
    ],
)
def test_health(
    status: Status,
    health: Health,
    state: State,
    weight: int,
    *,
    only_passing: bool,
) -> None:
    importer = Importer("consul", "dc1", only_passing=only_passing)
    (made,) = importer.instances([endpoint(status=status, weights=(7, 2))])
    assert (made.health, made.state, made.weight) == (health, state, weight)


def test_addresses() -> None:
    node = Node("n1", "host.example", "dc1", tagged=(("lan_ipv6", "2001:db8::9"), ("wan", "198.51.100.9")))
    wan = Importer("consul", "dc1", tagged="wan")

    def addresses(importer: Importer, **more: Any) -> list[str]:
        (made,) = importer.instances([endpoint(**more)])
        return [str(a.ip) for a in made.addresses]

    assert addresses(IMPORTER) == ["192.0.2.1"]
    assert addresses(IMPORTER, address="10.0.0.1") == ["10.0.0.1"]
    assert addresses(IMPORTER, address="svc.example") == [], "only .consul names can say a host name"
    assert addresses(IMPORTER, node=node) == ["2001:db8::9"]
    assert addresses(wan, node=node) == ["198.51.100.9", "2001:db8::9"]
    assert addresses(wan, address="10.0.0.1", tagged=(("wan", "198.51.100.1"),)) == ["198.51.100.1"]
    assert addresses(wan, address="10.0.0.1") == ["10.0.0.1"]


def test_own_exports_are_left_out_and_those_of_others_are_not() -> None:
    mine = Importer("consul", "dc1", own=("n1", "n1"))
    exported = endpoint(meta=(("discoverd-instance", "n1"),))
    elsewhere = endpoint(node=Node("n2", "192.0.2.2", "dc1"), meta=(("discoverd-instance", "n1"),))
    assert mine.instances([exported]) == ()
    assert len(mine.instances([elsewhere, endpoint()])) == 2
    assert len(IMPORTER.instances([exported])) == 1


@settings(deadline=None)  # other work on the machine is no fault
@each(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_any_name_makes_an_instance_with_names_that_dns_takes(node: str, service: str, ident: str) -> None:
    made = IMPORTER.instances([endpoint(node=Node(node, "x", "dc1"), id=ident, service=service)])[0]
    for name in bindings(made):
        assert all(0 < len(label) <= 63 for label in name.split("."))
    assert made.unique != unique_label(made.service, f"dc1/{node}/{ident}/")


def test_unique_labels_fit_and_keep_a_name_to_read() -> None:
    assert unique_label("web", "dc1/n1/w").startswith("web-")
    assert len(unique_label("w" * 63, "dc1/n1/w")) == 63


@pytest.mark.parametrize(("text", "number"), [("", 0), ("0", 1), ("17", 17), ("x", 0), ("-1", 0)])
def test_an_index_below_one_is_one_and_none_is_none(text: str, number: int) -> None:
    assert Index.of({"X-Consul-Index": text}).number == number


def test_an_index_says_how_current_its_answer_is() -> None:
    headers = {"X-Consul-Index": "5", "X-Consul-KnownLeader": "false", "X-Consul-LastContact": "12000"}
    index = Index.of(headers)
    assert (index, index.known_leader, index.last_contact) == ("5", False, 12000)


def state(node: str, name: str, status: str, service: str = "") -> dict[str, str]:
    ident = f"{service}-1" if service else ""
    return {"Node": node, "CheckID": name, "Status": status, "ServiceID": ident, "ServiceName": service}


@pytest.mark.parametrize("indent", [None, 4])
async def test_sums_change_with_what_they_sum_up_and_with_nothing_else(indent: int | None) -> None:
    checks = [
        state("n1", "serfHealth", "passing"),
        state("n1", "c1", "passing", "Web"),
        state("n1", "c2", "passing", "db"),
    ]
    services, nodes = await sum_up(json.dumps(checks, indent=indent))
    assert (set(services), set(nodes)) == ({"web", "db"}, {"n1"})
    again = await sum_up(json.dumps(checks[::-1]))
    assert again == (services, nodes)
    checks[1]["Status"] = "critical"
    changed, _ = await sum_up(json.dumps(checks))
    assert changed["db"] == services["db"]
    assert changed["web"] != services["web"]
    assert await sum_up("[]") == ({}, {})


@pytest.mark.parametrize("body", ["[{]", '[{"a": 1}]', '[{"ServiceName": null}]'])
async def test_sums_of_what_is_no_list_of_checks(body: str) -> None:
    with pytest.raises(AwayError, match="no list of checks"):
        await sum_up(body)
