from __future__ import annotations

import json
from typing import Any

import pytest

from discoverd.model import Link, State
from discoverd.resolver.explain import TYPES, Explanation, as_json, data_text, explain, type_number
from discoverd.resolver.outcome import (
    SOA,
    SRV,
    TXT,
    HinfoData,
    NameData,
    Question,
    Record,
    Refused,
    SoaData,
    SrvData,
    TxtData,
)
from tests.build import ENGINE, HOST, World, container, ip, short, static, tcp

WEB = container("web", 1, "edge", project="shop", ports=tcp(80))
PAUSED = container("web", 2, "edge", project="shop", ports=tcp(80), state=State.PAUSED)
CLIENT = container("app", 9, "edge", project="shop", links=(Link("talkto", "shop-web-1"),))


@pytest.fixture
def world() -> World:
    return World(WEB, PAUSED, CLIENT)


def said(world: World, name: str, wanted: str = "A", asker: str = HOST) -> dict[str, Any]:
    address = ip(asker)
    made = explain(
        world.local, Question(name, TYPES[wanted]), world.views.of(address), world.views.client(address)
    )
    found: dict[str, Any] = json.loads(json.dumps(as_json(made)))
    return found


def test_what_is_explained_is_what_is_answered(world: World) -> None:
    made = said(world, "web.docker", asker="10.3.0.9")
    assert (made["name"], made["type"], made["status"]) == ("web.docker", "A", "NOERROR")
    assert made["answers"] == [{"name": "web.docker", "type": "A", "ttl": 5, "data": "10.3.0.1"}]
    assert made["view"]["client"] == "shop-app-9"
    assert made["view"]["networks"] == [f"{ENGINE}/edge"]
    assert made["view"]["links"] == [{"alias": "talkto", "target": "shop-web-1"}]
    assert [(c["name"], c["chosen"], c["why"]) for c in made["considered"]] == [
        ("shop-web-1", True, ""),
        ("shop-web-2", False, "it is paused"),
    ]


def test_the_host_is_no_client(world: World) -> None:
    assert said(world, "web.docker")["view"]["client"] is None


@pytest.mark.parametrize(
    "name", ["_http._tcp.web.docker", "_tcp.web.docker", "_9._tcp.web.docker", "_http._tcp.web"]
)
def test_by_port_the_services_instances_are_considered(world: World, name: str) -> None:
    names = [c["name"] for c in said(world, name, "SRV")["considered"]]
    assert names == ["shop-web-1", "shop-web-2"]


def test_what_goes_along_is_shown(world: World) -> None:
    made = said(world, "web.docker", "SRV")
    target = f"{short('shop-web-1')}.docker"
    assert [a["data"] for a in made["answers"]] == [f"0 256 80 {target}."]
    assert made["additional"] == [{"name": target, "type": "A", "ttl": 5, "data": "10.3.0.1"}]


@pytest.mark.parametrize(
    ("name", "wanted", "status"),
    [
        ("nothing.docker", "A", "NXDOMAIN"),
        ("web.docker", "MX", "NOERROR"),
        ("example.com", "A", "NOTOURS"),
        ("docker", "SOA", "NOERROR"),
        ("1.0.3.10.in-addr.arpa", "PTR", "NOERROR"),
        ("_services._dns-sd._udp.docker", "PTR", "NOERROR"),
    ],
)
def test_every_outcome_has_a_status_and_a_reason(world: World, name: str, wanted: str, status: str) -> None:
    made = said(world, name, wanted)
    assert made["status"] == status
    assert made["reason"]


def test_a_source_that_is_silent_is_named(world: World) -> None:
    world.registry.writer("docker/other", "docker")
    made = said(world, "nothing.docker")
    assert made["status"] == "SERVFAIL"
    assert "docker/other" in made["reason"]


def test_nobody_is_considered_for_a_foreign_name() -> None:
    world = World(static("x", "192.0.2.1", extra_names=("example.com",)))
    assert said(world, "example.com")["considered"] == []


def test_what_is_refused_says_why(world: World) -> None:
    view = world.views.of(ip(HOST))
    made = as_json(Explanation(Question("web.docker", 1), view, None, Refused("not for you"), ()))
    assert (made["status"], made["reason"]) == ("REFUSED", "not for you")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("A", 1),
        ("aaaa", 28),
        ("TYPE65", 65),
        ("type0", 0),
        ("TYPE65535", 65535),
        ("TYPE65536", None),
        ("TYPE", None),
        ("TYPE-1", None),
        ("TYPE1e3", None),
        ("X", None),
        ("", None),
    ],
)
def test_types_by_name_and_number(text: str, number: int | None) -> None:
    assert type_number(text) == number


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (Record(1, 5, ip("192.0.2.1")), "192.0.2.1"),
        (Record(28, 5, ip("2001:db8::1")), "2001:db8::1"),
        (Record(SRV, 5, SrvData(0, 256, 80, "x.docker")), "0 256 80 x.docker."),
        (Record(12, 5, NameData("web.docker")), "web.docker."),
        (Record(TXT, 5, TxtData((b"a=1", b""))), '"a=1" ""'),
        (Record(TXT, 5, TxtData((b'q="\\"',))), '"q=\\"\\\\\\""'),
        (Record(TXT, 5, TxtData((b"a=\n\xff\xc3\xa9",))), '"a=\\010\\255\xe9"'),
        (Record(13, 5, HinfoData("RFC8482", "")), '"RFC8482" ""'),
        (Record(SOA, 5, SoaData("ns.d", "h.d", 7, 60, 10, 3600, 5)), "ns.d. h.d. 7 60 10 3600 5"),
    ],
)
def test_data_in_presentation_format(record: Record, text: str) -> None:
    assert data_text(record) == text
