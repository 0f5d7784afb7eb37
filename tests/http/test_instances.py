"""Registering over HTTP: what is taken, what is refused and how, and who may."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any

import pytest

from tests.http.stream import Stream
from tests.real.rest import request
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.server import Server

BODY = {"service": "pay", "addresses": ["10.1.2.3"]}


def ids(server: Server, service: str) -> list[str]:
    said = server.api(f"/v1/services/{service}").json
    return [i["id"] for s in said.get("services", []) for i in s["instances"]]


def test_a_registered_instance_resolves_at_once(server: Server) -> None:
    body = {
        **BODY,
        "scope": "shop",
        "addresses": ["10.1.2.3", {"address": "2001:db8::3"}],
        "ports": [{"name": "http", "port": 80}, "https=443/tcp", 9000],
        "tags": ["green"],
        "meta": {"version": "2"},
        "ttl": 9,
        "weight": 3,
        "lease": 60,
    }
    reply = server.api("/v1/instances/pay-1", "PUT", body)
    assert reply.status == 201
    assert reply.json["lease"] == 60
    assert {"pay.docker", "pay.shop.docker", "green.pay.docker"} <= set(reply.json["names"])
    assert server.api("/v1/services/pay").json["services"][0]["instances"] == [
        {key: value for key, value in reply.json.items() if key != "lease"}
    ]
    answer = server.api("/v1/resolve?name=pay.shop.docker&type=SRV").json
    assert sorted(a["data"].split()[2] for a in answer["answers"]) == ["443", "80", "9000"]
    assert {a["ttl"] for a in answer["answers"]} == {9}
    assert {a["data"] for a in answer["additional"]} == {"10.1.2.3", "2001:db8::3"}


def test_put_again_replaces(server: Server) -> None:
    assert server.api("/v1/instances/pay-1", "PUT", BODY).status == 201
    assert server.api("/v1/instances/pay-1", "PUT", {**BODY, "service": "bill"}).status == 200
    assert server.api("/v1/services/pay").status == 404
    assert ids(server, "bill") == ["pay-1"]


def test_delete_is_final(server: Server) -> None:
    server.api("/v1/instances/pay-1", "PUT", BODY)
    assert server.api("/v1/instances/pay-1", "DELETE").status == 204
    again = server.api("/v1/instances/pay-1", "DELETE")
    assert (again.status, again.json["field"]) == (404, "id")
    assert server.api("/v1/services/pay").status == 404


def test_an_id_cannot_take_over_a_service_of_that_name(server: Server) -> None:
    server.api("/v1/instances/web", "PUT", BODY)
    said = server.api("/v1/resolve?name=web.docker").json
    assert [a["data"] for a in said["answers"]] == ["192.0.2.11", "192.0.2.12"]


def test_instances_of_other_sources_are_not_removed(server: Server) -> None:
    reply = server.api("/v1/instances/static%2Fweb%2F192.0.2.11", "DELETE")
    assert (reply.status, reply.json["field"]) == (404, "id")
    assert "comes from static" in reply.json["error"]
    assert len(server.api("/v1/services/web").json["services"][0]["instances"]) == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"service": None}, "service"),
        ({"service": ""}, "service"),
        ({"service": "two words"}, "service"),
        ({"service": "x" * 64}, "service"),
        ({"service": "\u212aelvin"}, "service"),
        ({"scope": "a.b"}, "scope"),
        ({"addresses": []}, "addresses"),
        ({"addresses": "10.0.0.1"}, "addresses"),
        ({"addresses": ["10.0.0.1", "nowhere"]}, "addresses[1]"),
        ({"addresses": ["0.0.0.0"]}, "addresses[0]"),
        ({"addresses": ["fe80::1%eth0"]}, "addresses[0]"),
        ({"addresses": ["10.0.0.1"] * 17}, "addresses"),
        ({"ports": [0]}, "ports[0]"),
        ({"ports": [80, "http=65536"]}, "ports[1]"),
        ({"ports": [True]}, "ports[0]"),
        ({"ports": [{"name": "x"}]}, "ports[0].port"),
        ({"ports": [{"port": 80, "protocol": "icmp"}]}, "ports[0].protocol"),
        ({"ports": [{"port": 80, "name": "a b"}]}, "ports[0].name"),
        ({"tags": ["a,b"]}, "tags[0]"),
        ({"meta": {"a=b": "c"}}, "meta"),
        ({"meta": {"a": 1}}, "meta.a"),
        ({"meta": {"a": "line\nline"}}, "meta.a"),
        ({"meta": {"a": "ä" * 191}}, "meta.a"),
        ({"meta": {"a": "\ud800"}}, "meta.a"),
        ({"meta": {"\ud800": "a"}}, "meta"),
        ({"service": "\ud800"}, "service"),
        ({"\ud800": 1}, "\ud800"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": "5"}, "ttl"),
        ({"weight": 65536}, "weight"),
        ({"weight": None}, "weight"),
        ({"lease": 0}, "lease"),
        ({"lease": 1.5}, "lease"),
        ({"adresses": ["10.0.0.1"]}, "adresses"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_changes(
    server: Server, change: dict[str, Any], field: str
) -> None:
    assert server.api("/v1/instances/pay-1", "PUT", BODY).status == 201
    reply = server.api("/v1/instances/pay-1", "PUT", {**BODY, **change})
    assert (reply.status, reply.json["field"]) == (400, field), reply.text
    assert "expected" in reply.json["error"] or "did you mean" in reply.json["error"]
    assert ids(server, "pay") == ["pay-1"]


@pytest.mark.parametrize("missing", ["service", "addresses"])
def test_what_is_missing_is_named(server: Server, missing: str) -> None:
    reply = server.api("/v1/instances/x", "PUT", {k: v for k, v in BODY.items() if k != missing})
    assert (reply.status, reply.json["field"]) == (400, missing)


@pytest.mark.parametrize("ident", ["-x", "a%20b", "a%2Fb", "x" * 129, "%C3%A4", "a%0A"])
def test_an_id_that_would_need_escaping_is_refused(server: Server, ident: str) -> None:
    reply = server.api(f"/v1/instances/{ident}", "PUT", BODY)
    assert reply.status in (400, 404), reply.text
    if reply.status == 400:
        assert reply.json["field"] == "id"
    assert server.api("/v1/services/pay").status == 404


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b"[" * 60_000, 400),
        (b'"' + b"x" * 70_000 + b'"', 413),
    ],
)
def test_a_body_that_is_no_object_or_too_large(server: Server, raw: bytes, status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10)
    connection.request("PUT", "/v1/instances/x", raw)
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    assert reply.status == status, text
    assert b'"error"' in text


def test_a_lease_runs_out_and_is_told(server: Server) -> None:
    with Stream(server) as stream:
        events = iter(stream)
        assert next(events)[0] == "snapshot"
        server.api("/v1/instances/pay-1", "PUT", {**BODY, "lease": 1})
        name, change = next(events)
        assert (name, [i["id"] for i in change["added"]]) == ("change", ["pay-1"])
        name, change = next(events)
        assert (name, [i["id"] for i in change["removed"]]) == ("change", ["pay-1"])
    assert server.api("/v1/services/pay").status == 404
    gone = server.api("/v1/instances/pay-1/renew", "POST")
    assert (gone.status, gone.json["field"]) == (404, "id")


def test_renewals_keep_it(server: Server) -> None:
    """Another one with the same lease is not renewed: when it is gone, the renewed one is still there."""
    server.api("/v1/instances/kept", "PUT", {**BODY, "lease": 2})
    server.api("/v1/instances/left", "PUT", {**BODY, "lease": 2})

    def left_is_gone() -> bool:
        assert server.api("/v1/instances/kept/renew", "POST").json == {"id": "kept", "lease": 2}
        return "left" not in ids(server, "pay")

    until(left_is_gone, timeout=20)
    assert ids(server, "pay") == ["kept"]


TOKEN = """
[http]
token = "s3cret"
"""


def test_without_the_token_nothing_changes(start: Callable[..., Server]) -> None:
    server = start(config=TOKEN)
    given = ("", "Bearer", "Bearer wrong", "Basic s3cret", "Bearer s3cret s3cret", "Bearer \xe4")
    for header in given:
        headers = {"Authorization": header} if header else {}
        for method, path in (("PUT", ""), ("DELETE", ""), ("POST", "/renew")):
            reply = request(method, f"{server.url}/v1/instances/x{path}", BODY, headers)
            assert reply.status == 401
            assert reply.headers["www-authenticate"].startswith("Bearer")
    assert server.api("/v1/services").json == {"services": []}


def test_with_the_token_it_does(start: Callable[..., Server]) -> None:
    server = start(config=TOKEN)
    reply = request("PUT", f"{server.url}/v1/instances/x", BODY, {"Authorization": "bearer s3cret"})
    assert reply.status == 201
    assert "s3cret" not in server.log_text


def test_beyond_loopback_without_a_token_it_is_read_only(start: Callable[..., Server]) -> None:
    server = start(http="0.0.0.0:0")
    reply = server.api("/v1/instances/x", "PUT", BODY)
    assert reply.status == 403
    assert "read-only" in reply.json["error"]
    assert server.api("/v1/services").status == 200


def test_beyond_loopback_the_token_opens_it(start: Callable[..., Server]) -> None:
    server = start(config=TOKEN, http="0.0.0.0:0")
    assert server.api("/v1/instances/x", "PUT", BODY).status == 401
    reply = request("PUT", f"{server.url}/v1/instances/x", BODY, {"Authorization": "Bearer s3cret"})
    assert reply.status == 201


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "rebound.example:8053"}]
)
def test_pages_of_other_sites_change_nothing(server: Server, headers: dict[str, str]) -> None:
    assert request("PUT", f"{server.url}/v1/instances/x", BODY, headers).status == 403
    assert server.api("/v1/services/pay").status == 404


def test_its_own_page_may(server: Server) -> None:
    reply = request("PUT", f"{server.url}/v1/instances/x", BODY, {"Origin": server.url})
    assert reply.status == 201
