"""The API described in OpenAPI 3.1; a test holds the description against the server."""

from __future__ import annotations

from typing import Any

from discoverd import __version__, registration
from discoverd.http import schemas
from discoverd.http.schemas import array, text

Operation = dict[str, Any]


def description() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "discoverd",
            "version": __version__,
            "description": "What discoverd knows, what it would answer, and registration of instances.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": PATHS,
        "components": {
            "schemas": schemas.ALL,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`http.token` of the server; without one, changes need no authorization.",
                }
            },
        },
    }


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def says(what: str, schema: Any = None, media: str = "application/json") -> dict[str, Any]:
    return {"description": what, **({"content": {media: {"schema": schema}}} if schema is not None else {})}


def refuses(**why: str) -> dict[str, Any]:
    """Responses by status, written ``s404="..."``."""
    return {status[1:]: says(what, ref("Error")) for status, what in why.items()}


def query(name: str, what: str, schema: Any, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": what, "required": required, "schema": schema}


def get(name: str, what: str, responses: dict[str, Any], *parameters: Any) -> dict[str, Operation]:
    operation = {"operationId": name, "summary": what, "responses": responses}
    return {"get": {**operation, **({"parameters": list(parameters)} if parameters else {})}}


ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The caller's own name for the instance.",
    "schema": {"type": "string", "pattern": f"^{registration.ID}$"},
}
CHANGES: Operation = {"security": [{"token": []}, {}]}
DENIED = {
    "s401": "The token is missing or wrong.",
    "s403": "Read-only: beyond loopback without a token.",
}
DNS = "application/dns-message"
BINARY = {"type": "string", "contentEncoding": "binary"}
RESOLVED = refuses(s400="A parameter is missing or wrong.")
NOT_KEPT = {"503": says("The state directory did not take it.", ref("Error"))}

PATHS: dict[str, Any] = {
    "/v1/services": get(
        "services", "All services with their instances.", {"200": says("The registry.", ref("Services"))}
    ),
    "/v1/services/{name}": get(
        "service",
        "One service, in every scope that has it; `name.scope` picks one.",
        {
            "200": says("The services of that name.", ref("Services")),
            **refuses(s404="There is no such service."),
        },
        {"name": "name", "in": "path", "required": True, "schema": text(1)},
    ),
    "/v1/resolve": get(
        "resolve",
        "What a client would be answered, and why.",
        {"200": says("The answer and what was considered.", ref("Explanation")), **RESOLVED},
        query(
            "name",
            "The name asked for.",
            {"type": "string", "pattern": "^[!-~]{0,252}[!-\\-/-~]$"},
            required=True,
        ),
        query("type", "The record type, such as A, SRV or TYPE65; default: A.", schemas.RECORD_TYPE),
        query("client", "Who asks: an IP address; default: the HTTP client.", schemas.ADDRESS_TEXT),
    ),
    "/v1/instances/{id}": {
        "parameters": [ID],
        "put": {
            "operationId": "register",
            "summary": "Register an instance, or replace it. Answered once it is on disk and resolves.",
            **CHANGES,
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": ref("Registration")}},
            },
            "responses": {
                "200": says("Replaced.", ref("Registered")),
                "201": says("Registered.", ref("Registered")),
                **refuses(
                    s400="A field is wrong.",
                    **DENIED,
                    s413="The body is too large.",
                    s429="No more instances can be registered.",
                ),
                **NOT_KEPT,
            },
        },
        "delete": {
            "operationId": "deregister",
            "summary": "Deregister an instance.",
            **CHANGES,
            "responses": {
                "204": says("It is gone."),
                **refuses(**DENIED, s404="Nothing is registered by that id."),
                **NOT_KEPT,
            },
        },
    },
    "/v1/instances/{id}/renew": {
        "parameters": [ID],
        "post": {
            "operationId": "renew",
            "summary": "Renew a lease.",
            **CHANGES,
            "responses": {
                "200": says("The lease begins anew.", ref("Renewed")),
                **refuses(**DENIED, s404="The lease is gone: register again."),
            },
        },
    },
    "/v1/cache": {
        "delete": {
            "operationId": "flush",
            "summary": "Forget what other people's name servers have answered.",
            **CHANGES,
            "responses": {"200": says("It is forgotten.", ref("Flushed")), **refuses(**DENIED)},
        },
    },
    "/v1/cache/{name}": {
        "parameters": [
            {
                "name": "name",
                "in": "path",
                "required": True,
                "description": "A DNS name, such as example.com.",
                "schema": {"type": "string", "pattern": schemas.DNS_NAME, "maxLength": 254},
            }
        ],
        "delete": {
            "operationId": "flushName",
            "summary": "The same for a name and all below it.",
            **CHANGES,
            "responses": {
                "200": says("It is forgotten.", ref("Flushed")),
                **refuses(s400="That is no DNS name.", **DENIED),
            },
        },
    },
    "/v1/events": get(
        "events",
        "Server-sent events: `snapshot`, then `change` and `sources`.",
        {
            "200": says("The stream.", {"type": "string"}, "text/event-stream"),
            **refuses(s429="Too many streams are open."),
        },
    ),
    "/v1/sources": get(
        "sources",
        "Where instances come from, and how current each source is; which other processes answer.",
        {"200": says("The sources and the workers.", ref("Sources"))},
    ),
    "/v1/prometheus-sd": get(
        "prometheus",
        "Targets for Prometheus' http_sd_config, at addresses that the asker can reach.",
        {"200": says("One group for each target.", array(ref("Target")))},
        query("service", "Only this service; `name.scope` picks one.", {"type": "string"}),
        query("port", "Only this port, by number, given name or IANA name.", {"type": "string"}),
    ),
    "/v1/openapi.json": get("openapi", "This document.", {"200": says("OpenAPI 3.1.", {"type": "object"})}),
    "/metrics": get(
        "metrics", "Prometheus exposition.", {"200": says("Metrics.", {"type": "string"}, "text/plain")}
    ),
    "/healthz": get("healthz", "Whether the process is alive.", {"200": says("It is.", ref("State"))}),
    "/readyz": get(
        "readyz",
        "Whether every configured source has synced once.",
        {"200": says("All have.", ref("State")), "503": says("Not yet, and why.", ref("State"))},
    ),
    "/dns-query": {
        "get": {
            "operationId": "dnsGet",
            "summary": "DNS over HTTPS messages (RFC 8484).",
            "parameters": [
                query("dns", "A DNS message in base64url.", {"type": "string", "minLength": 1}, required=True)
            ],
            "responses": {
                "200": says("A DNS message.", BINARY, DNS),
                **refuses(s400="That is no DNS query."),
            },
        },
        "post": {
            "operationId": "dnsPost",
            "summary": "DNS over HTTPS messages (RFC 8484).",
            "requestBody": {"required": True, "content": {DNS: {"schema": BINARY}}},
            "responses": {
                "200": says("A DNS message.", BINARY, DNS),
                **refuses(
                    s400="That is no DNS query.", s413="The body is too large.", s415="Not a DNS message."
                ),
            },
        },
    },
}
