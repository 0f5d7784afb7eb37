"""JSON Schemas of what the API takes and gives (2020-12, as OpenAPI 3.1 has them)."""

from __future__ import annotations

from typing import Any

from discoverd import registration as limits
from discoverd.config.values import MAX_TTL_SECONDS
from discoverd.model import Health, SourceState, State
from discoverd.resolver.explain import TYPES

Schema = dict[str, Any]


def text(shortest: int = 0, pattern: str = "") -> Schema:
    return {
        "type": "string",
        **({"minLength": shortest} if shortest else {}),
        **({"pattern": f"^{pattern}$"} if pattern else {}),
    }


def integer(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def record(*optional: str, **fields: Schema) -> Schema:
    """An object of exactly these fields; all are required but those named ``optional``."""
    required = [name for name in fields if name not in optional]
    return {
        "type": "object",
        "properties": fields,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def choice(values: Any) -> Schema:
    return {"type": "string", "enum": [str(value) for value in values]}


STRING = text()
RECORD_TYPE = {
    "type": "string",
    "anyOf": [{"enum": [*TYPES]}, {"pattern": "^TYPE([1-5][0-9]{0,4}|[6-9][0-9]{0,3}|0)$"}],
}
NUMBER = {"type": "number"}
TEXTS = {"type": "object", "additionalProperties": STRING}
ADDRESS_TEXT = {
    "type": "string",
    "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}],
    "examples": ["10.0.0.5", "2001:db8::5"],
}
CONNECTABLE = {**ADDRESS_TEXT, "not": {"enum": ["0.0.0.0", "::", "0:0:0:0:0:0:0:0"]}}  # noqa: S104
PORT = integer(1, 65_535)
LABEL = text(pattern=limits.LABEL)
SCOPE = text(pattern=f"({limits.LABEL})?")
SEEN_PORT = record(name=STRING, port=PORT, protocol=choice(limits.PROTOCOLS), published=nullable(PORT))
GIVEN_PORT = record(
    "name", "protocol", "published",
    name=SCOPE, port=PORT, protocol=choice(limits.PROTOCOLS), published=nullable(PORT),
)  # fmt: skip

INSTANCE_FIELDS: dict[str, Schema] = {
    "id": STRING,
    "service": STRING,
    "scope": STRING,
    "source": STRING,
    "state": choice(State),
    "health": choice(Health),
    "addresses": array(record(network=STRING, address=ADDRESS_TEXT)),
    "ports": array(SEEN_PORT),
    "tags": array(STRING),
    "meta": TEXTS,
    "weight": integer(0, limits.MAX_WEIGHT),
    "ttl": nullable(integer(0, MAX_TTL_SECONDS)),
    "names": array(STRING),
}
LEASE = nullable(integer(1, limits.MAX_LEASE_SECONDS))
RECORD = record(name=STRING, type=STRING, ttl=integer(0, 2**31 - 1), data=STRING)

REGISTRATION = record(
    "scope", "ports", "tags", "meta", "ttl", "weight", "lease",
    service=LABEL,
    scope=SCOPE,
    addresses=array(
        {"anyOf": [CONNECTABLE, record("network", address=CONNECTABLE, network={"const": ""})]},
        minItems=1,
        maxItems=limits.MAX_ADDRESSES,
    ),
    ports=array({"anyOf": [PORT, text(pattern=limits.PORT_TEXT), GIVEN_PORT]}, maxItems=limits.MAX_PORTS),
    tags=array(text(pattern=limits.TAG), maxItems=limits.MAX_TAGS),
    meta={
        "type": "object",
        "propertyNames": {"pattern": f"^{limits.META_KEY}$"},
        "additionalProperties": text(pattern=limits.META_VALUE),
        "maxProperties": limits.MAX_META,
    },
    ttl=nullable(integer(0, MAX_TTL_SECONDS)),
    weight=integer(0, limits.MAX_WEIGHT),
    lease=LEASE,
)  # fmt: skip

#: RFC 1035 section 2.3.4 as text, with or without the final dot.
DNS_NAME = "^[A-Za-z0-9_-]{1,63}(\\.[A-Za-z0-9_-]{1,63})*\\.?$"

ALL: dict[str, Schema] = {
    "Flushed": record(flushed={"type": "integer", "minimum": 0}),
    "Error": record(error=text(1), field=nullable(STRING)),
    "State": record("reason", status=choice(["alive", "ready", "not ready"]), reason=STRING),
    "Instance": record(**INSTANCE_FIELDS),
    "Services": record(
        services=array(
            record(name=STRING, scope=STRING, instances=array({"$ref": "#/components/schemas/Instance"}))
        )
    ),
    "Registration": REGISTRATION,
    "Registered": record(**INSTANCE_FIELDS, lease=LEASE),
    "Renewed": record(id=STRING, lease=LEASE),
    "Sources": record(
        sources=array(
            record(
                name=STRING,
                kind=STRING,
                state=choice(SourceState),
                last_sync=nullable(NUMBER),
                last_error=nullable(STRING),
                instances=integer(0, 2**31 - 1),
                detail={"type": "object"},
            )
        ),
        workers=array(
            record(
                number=integer(1, 64),
                pid=nullable(integer(1, 2**31 - 1)),
                answering={"type": "boolean"},
                deaths=integer(0, 2**31 - 1),
            )
        ),
    ),
    "Target": record(targets=array(STRING), labels=TEXTS),
    "Explanation": record(
        name=STRING,
        type=STRING,
        client=ADDRESS_TEXT,
        status=choice(["NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED", "NOTOURS"]),
        reason=STRING,
        view=record(
            place=STRING,
            networks=array(STRING),
            network_names=array(STRING),
            client=nullable(STRING),
            links=array(record(alias=STRING, target=STRING)),
        ),
        answers=array(RECORD),
        additional=array(RECORD),
        hints=array(STRING),
        considered=array(
            record(
                id=STRING,
                service=STRING,
                scope=STRING,
                name=STRING,
                state=choice(State),
                health=choice(Health),
                chosen={"type": "boolean"},
                why=STRING,
            )
        ),
    ),
}
