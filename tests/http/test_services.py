"""What the API says of the registry and of answers, asked over real HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.server import Server


def test_all_services_in_the_shape_of_the_contract(server: Server) -> None:
    services = server.api("/v1/services").json["services"]
    assert [(s["name"], s["scope"], len(s["instances"])) for s in services] == [
        ("db", "blog", 2),
        ("db", "shop", 1),
        ("web", "", 2),
    ]
    first = services[2]["instances"][0]
    assert first == {
        "id": "static/web/192.0.2.11",
        "service": "web",
        "scope": "",
        "source": "static",
        "state": "running",
        "health": "healthy",
        "addresses": [{"network": "", "address": "192.0.2.11"}],
        "ports": [
            {"name": "http", "port": 8080, "protocol": "tcp", "published": None},
            {"name": "", "port": 5353, "protocol": "udp", "published": None},
        ],
        "tags": ["blue"],
        "meta": {"version": "1.4"},
        "weight": 1,
        "ttl": None,
        "names": ["web.docker", "blue.web.docker", "web-192-0-2-11.docker"],
    }


def test_no_services_is_an_empty_list(start: Callable[..., Server]) -> None:
    assert start(config="ttl = 5").api("/v1/services").json == {"services": []}


@pytest.mark.parametrize(
    ("name", "scopes"),
    [
        ("db", ["blog", "shop"]),
        ("db.shop", ["shop"]),
        ("DB.docker", ["blog", "shop"]),
        ("db.shop.docker.", ["shop"]),
    ],
)
def test_one_service(server: Server, name: str, scopes: list[str]) -> None:
    assert [s["scope"] for s in server.api(f"/v1/services/{name}").json["services"]] == scopes


def test_an_unknown_service_is_404_with_the_field(server: Server) -> None:
    reply = server.api("/v1/services/nobody")
    assert reply.status == 404
    assert reply.json == {"error": "no service is called nobody", "field": "name"}


def test_resolve_says_what_is_answered_and_why(server: Server) -> None:
    said = server.api("/v1/resolve?name=WEB.docker&type=a&client=127.0.0.1").json
    assert said["status"] == "NOERROR"
    assert [a["data"] for a in said["answers"]] == ["192.0.2.11", "192.0.2.12"]
    assert [(c["id"], c["chosen"]) for c in said["considered"]] == [
        ("static/web/192.0.2.11", True),
        ("static/web/192.0.2.12", True),
    ]
    assert said["view"]["place"] == "on the host itself"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "name"),
        ("name=", "name"),
        ("name=two%20words", "name"),
        ("name=web&type=HUH", "type"),
        ("name=web&type=TYPE65536", "type"),
        ("name=web&client=nobody", "client"),
    ],
)
def test_resolve_names_the_wrong_parameter(server: Server, query: str, field: str) -> None:
    reply = server.api(f"/v1/resolve?{query}")
    assert reply.status == 400
    assert reply.json["field"] == field
    assert reply.json["error"]


def test_prometheus_targets_are_tcp_ports_with_labels(server: Server) -> None:
    groups = server.api("/v1/prometheus-sd").json
    assert sorted(t for g in groups for t in g["targets"]) == [
        "192.0.2.11:8080",
        "192.0.2.12:8080",
        "192.0.2.21:5432",
        "192.0.2.22:5432",
        "[2001:db8::22]:5432",
    ]
    web = next(g for g in groups if g["targets"] == ["192.0.2.11:8080"])
    assert web["labels"] == {
        "__meta_discoverd_service": "web",
        "__meta_discoverd_source": "static",
        "__meta_discoverd_instance": "static/web/192.0.2.11",
        "__meta_discoverd_health": "healthy",
        "__meta_discoverd_tags": ",blue,",
        "__meta_discoverd_meta_version": "1.4",
        "__meta_discoverd_port_name": "http",
        "__meta_discoverd_port_number": "8080",
    }


@pytest.mark.parametrize(
    ("query", "targets"),
    [
        ("service=web&port=http", ["192.0.2.11:8080", "192.0.2.12:8080"]),
        ("service=web&port=8080", ["192.0.2.11:8080", "192.0.2.12:8080"]),
        ("service=web&port=5353", []),
        ("service=db.shop", ["192.0.2.21:5432"]),
        ("port=postgresql", ["192.0.2.21:5432", "192.0.2.22:5432", "[2001:db8::22]:5432"]),
        ("service=nobody", []),
    ],
)
def test_prometheus_targets_by_service_and_port(server: Server, query: str, targets: list[str]) -> None:
    groups = server.api(f"/v1/prometheus-sd?{query}").json
    assert sorted(t for g in groups for t in g["targets"]) == targets


def test_alive_ready_and_counted(server: Server) -> None:
    assert server.api("/healthz").json == {"status": "alive"}
    assert server.api("/readyz").json == {"status": "ready"}
    metrics = server.api("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'discoverd_source_instances{source="static"} 5.0' in metrics.text


def test_not_ready_until_every_source_has_synced(start: Callable[..., Server]) -> None:
    server = start("--docker", "unix:///nowhere/docker.sock")
    reply = server.api("/readyz")
    assert reply.status == 503
    assert "docker/" in reply.json["reason"]
    assert server.api("/healthz").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("POST", "/v1/services", 405), ("DELETE", "/healthz", 405)],
)
def test_what_is_not_there_is_an_error_like_any_other(
    server: Server, method: str, path: str, status: int
) -> None:
    reply = server.api(path, method)
    assert reply.status == status
    assert reply.json.keys() == {"error", "field"}
    assert ("allow" in reply.headers) == (status == 405)
