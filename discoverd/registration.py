"""What somebody registers over HTTP: JSON to a checked value, to an instance, and back. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NoReturn

from discoverd import naming
from discoverd.config.errors import did_you_mean, shown
from discoverd.config.values import MAX_TTL_SECONDS
from discoverd.model import Address, Instance, Port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from discoverd.model import IPAddress

SOURCE = "registered"

#: What an id may be: it stands in a URL, a log line and a terminal, so nothing needs escaping.
ID = r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,127}"
LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
#: A tag goes in front of the service's name once naming has made a label of it; commas part tags in TXT.
TAG = r"[!-+\--~]{1,63}"
META_KEY = r"[ -<>-~]{1,63}"  # printable ASCII without "=" (RFC 6763 section 6.4)
#: Text on one line. What does not fit a TXT string with its key (RFC 6763 section 6.1) is not served there.
META_VALUE = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,190}"
PORT_TEXT = (
    rf"({LABEL}=)?"
    r"(6553[0-5]|655[0-2][0-9]|65[0-4][0-9][0-9]|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
    r"(/(tcp|udp|sctp))?"
)
PROTOCOLS = ("tcp", "udp", "sctp")

MAX_ADDRESSES = 16
MAX_PORTS = 64
MAX_TAGS = 32
MAX_META = 32
MAX_WEIGHT = 65_535
#: 30 days: an instance that is silent for longer should not have a lease at all.
MAX_LEASE_SECONDS = 2_592_000


class FieldError(ValueError):
    """A field is wrong; the text says what it has and what was expected."""

    def __init__(self, field: str | None, text: str) -> None:
        super().__init__(text)
        self.field, self.text = field, text


@dataclass(frozen=True, slots=True)
class Registration:
    """One registered instance. ``lease`` is in seconds; None never expires."""

    id: str
    service: str
    addresses: tuple[str, ...]
    scope: str = ""
    ports: tuple[Port, ...] = ()
    tags: tuple[str, ...] = ()
    meta: tuple[tuple[str, str], ...] = ()
    ttl: int | None = None
    weight: int = 1
    lease: int | None = None


def parse_id(text: str) -> str:
    """An id as it stands in a URL. Raises FieldError."""
    if not re.fullmatch(ID, text):
        raise FieldError(
            "id",
            f"{shown(text)}: expected 1 to 128 letters, digits and . _ : ~ - with a letter or digit first",
        )
    return text


def parse(ident: str, body: Any) -> Registration:
    """A registration from its JSON. Raises FieldError for the first field that is wrong."""
    ident = parse_id(ident)
    if not isinstance(body, dict):
        raise FieldError(None, 'expected an object, such as {"service": "web", "addresses": ["10.0.0.5"]}')
    for key in body:
        if key not in _FIELDS:
            raise FieldError(key, f"unknown field {shown(key)}: {did_you_mean(key, _FIELDS)}")
    for key, example in (("service", '"web"'), ("addresses", '["10.0.0.5"]')):
        if key not in body:
            raise FieldError(key, f"{key} is missing: expected it, such as {example}")
    return Registration(ident, **{key: _FIELDS[key](key, value) for key, value in body.items()})


def to_json(registration: Registration) -> dict[str, Any]:
    """The body that :func:`parse` makes this registration of."""
    body = asdict(registration)
    del body["id"]
    for port in body["ports"]:
        del port["published_beyond_host"]
    return {**body, "meta": dict(registration.meta)}


def to_instance(registration: Registration) -> Instance:
    """The instance that is published."""
    return Instance(
        id=registration.id,
        service=registration.service,
        source=SOURCE,
        scope=registration.scope,
        addresses=tuple(Address(ip_address(text)) for text in registration.addresses),
        ports=registration.ports,
        tags=registration.tags,
        meta=registration.meta,
        weight=registration.weight,
        ttl=registration.ttl,
        unique=unique_label(registration.id),
    )


def unique_label(ident: str) -> str:
    """A DNS label that only this id has: ``web-1`` -> ``web-1-3f0a2b9c``.

    It always ends in a hash of the id. A unique label goes before every other claim to its name, so
    an id "web" must not become the name ``web``: it would take the service of that name over.
    """
    digest = hashlib.sha256(ident.encode()).hexdigest()[:8]
    label = naming.to_label(ident) or "instance"
    return f"{label[: naming.MAX_LABEL - 9].rstrip('-')}-{digest}"


# -- fields -----------------------------------------------------------------------------------


def _wrong(field: str, value: Any, expected: str) -> NoReturn:
    raise FieldError(field, f"{field} is {shown(value)}: expected {expected}")


def _label(field: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(LABEL, value):
        _wrong(field, value, "one DNS label: up to 63 letters, digits, hyphens and underscores")
    return value.lower()


def _scope(field: str, value: Any) -> str:
    return "" if value == "" else _label(field, value)


def _whole(low: int, high: int, *, optional: bool = False) -> Callable[[str, Any], Any]:
    def check(field: str, value: Any) -> int | None:
        if optional and value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON knows one kind of number
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            _wrong(field, value, f"a whole number from {low} to {high}")
        return value

    return check


def _each(field: str, value: Any, most: int, one: Callable[[str, Any], Any]) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) > most:
        what = f"{len(value)} items" if isinstance(value, list) else shown(value)
        raise FieldError(field, f"{field} is {what}: expected a list of at most {most}")
    return tuple(dict.fromkeys(one(f"{field}[{i}]", item) for i, item in enumerate(value)))


def _address(field: str, value: Any) -> str:
    text = value
    if isinstance(value, dict) and value.keys() <= {"address", "network"} and value.get("network", "") == "":
        text = value.get("address")
    try:
        found: IPAddress | None = ip_address(text) if isinstance(text, str) and "%" not in text else None
    except ValueError:
        found = None
    if found is None or found.is_unspecified:
        _wrong(field, value, "an IP address that clients can connect to, such as 10.0.0.5 or 2001:db8::5")
    return str(found)


def _addresses(field: str, value: Any) -> tuple[str, ...]:
    if value == []:
        _wrong(field, value, "at least one IP address")
    return _each(field, value, MAX_ADDRESSES, _address)


def _port(field: str, value: Any) -> Port:
    if isinstance(value, str) and re.fullmatch(PORT_TEXT, value):
        name, _, rest = value.rpartition("=")
        number, _, protocol = rest.partition("/")
        return Port(int(number), protocol or "tcp", name.lower())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Port(_NUMBER(field, value))
    if not isinstance(value, dict) or value.keys() - {"name", "port", "protocol", "published"}:
        _wrong(field, value, 'a number, "name=80/tcp" or {"name", "port", "protocol", "published"}')
    if "port" not in value:
        raise FieldError(f"{field}.port", f"{field}.port is missing: expected a number from 1 to 65535")
    protocol, name = value.get("protocol", "tcp"), value.get("name", "")
    if protocol not in PROTOCOLS:
        _wrong(f"{field}.protocol", protocol, "tcp, udp or sctp")
    return Port(
        _NUMBER(f"{field}.port", value["port"]),
        protocol,
        "" if name == "" else _label(f"{field}.name", name),
        _PUBLISHED(f"{field}.published", value.get("published")),
    )


def _tag(field: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(TAG, value):
        _wrong(field, value, "up to 63 printable ASCII characters without spaces and commas")
    return value


def _meta(field: str, value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or len(value) > MAX_META:
        raise FieldError(field, f"{field}: expected an object of at most {MAX_META} texts")
    for key, text in value.items():
        if not re.fullmatch(META_KEY, key):
            _wrong(field, key, "keys of 1 to 63 printable ASCII characters without =")
        if not isinstance(text, str) or not re.fullmatch(META_VALUE, text) or not _is_unicode(text):
            _wrong(f"{field}.{key}", text, "up to 190 characters of text on one line")
    return tuple(value.items())


def _is_unicode(text: str) -> bool:
    """JSON can carry halves of characters, which nothing else can."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


_NUMBER = _whole(1, 65_535)
_PUBLISHED = _whole(1, 65_535, optional=True)
_FIELDS: Mapping[str, Callable[[str, Any], Any]] = {
    "service": _label,
    "scope": _scope,
    "addresses": _addresses,
    "ports": lambda field, value: _each(field, value, MAX_PORTS, _port),
    "tags": lambda field, value: _each(field, value, MAX_TAGS, _tag),
    "meta": _meta,
    "ttl": _whole(0, MAX_TTL_SECONDS, optional=True),
    "weight": _whole(0, MAX_WEIGHT),
    "lease": _whole(1, MAX_LEASE_SECONDS, optional=True),
}
