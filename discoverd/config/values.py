"""Single values: text or TOML in, a normalised value out, or a ValueError that says what was expected.

Every message is the second half of a line that begins with where the value came from, so
each one reads on its own: ``expected whole seconds from 0 to 604800``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, SecretStr

from discoverd.config.endpoints import Endpoint, parse_ip, parse_listen, parse_network, parse_upstream

#: Octets of what says which server this is.
IDENTITY_MOST = 128
#: One week, the longest TTL that RFC 8767 section 4 calls sensible for a cache to honour.
MAX_TTL_SECONDS = 604_800

#: What a name template can hold, beside ``{label:KEY}``.
TEMPLATE_FIELDS = frozenset({"service", "project", "scope", "name", "replica", "hostname", "id", "engine"})

_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class PortSpec:
    """A port of a static service as it was written."""

    port: int
    protocol: str = "tcp"
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name}={self.port}/{self.protocol}" if self.name else f"{self.port}/{self.protocol}"


def whole(low: int, high: int, expected: str) -> BeforeValidator:
    """A validator for a whole number from ``low`` to ``high``; digits in text count as a number."""

    def check(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,12}", value.strip()):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"expected {expected}")
        return value

    return BeforeValidator(check)


def choice(*words: str) -> BeforeValidator:
    """A validator for one of a few words, in any letter case."""

    def check(value: Any) -> str:
        if isinstance(value, str) and value.strip().lower() in words:
            return value.strip().lower()
        raise ValueError("expected " + " or ".join(", ".join(words).rsplit(", ", 1)))

    return BeforeValidator(check)


def as_list(value: Any) -> list[Any]:
    """A list as it is, anything else as a list of one; ``off`` is the empty list."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    if items == ["off"]:
        return []
    if "off" in items:
        raise ValueError("expected off to stand alone")
    return items


def as_filled_list(value: Any) -> list[Any]:
    """The same, with at least one item."""
    if not (items := as_list(value)):
        raise ValueError("expected at least one")
    return items


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("expected true or false")


def _switch(value: Any) -> bool:
    """The same, or the word: a variable has no other way to say it."""
    said = {"true": True, "1": True, "false": False, "0": False}
    return (
        said[value.strip().lower()]
        if isinstance(value, str) and value.strip().lower() in said
        else _boolean(value)
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("expected text")
    return value.strip()


def _identity(value: Any) -> str | None:
    """RFC 5001 lets it be anything; every reply has to have room for it."""
    if value is None:
        return None
    text = _text(value) if isinstance(value, str) and value.strip() and value.isprintable() else ""
    if not 0 < len(text.encode()) <= IDENTITY_MOST:
        raise ValueError(f"expected text of 1 to {IDENTITY_MOST} octets")
    return text


def _secret(value: Any) -> SecretStr:
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str) or not value.strip() or not value.isascii() or not value.isprintable():
        raise ValueError("expected a secret of printable ASCII characters")
    return SecretStr(value.strip())


def path_or_off(value: Any) -> Path | None:
    """A path with ``~`` expanded, None for ``off``. Raises ValueError."""
    if value is None or value == "off" or isinstance(value, Path):
        return None if value == "off" else value
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("expected a path or off")
    return Path(value).expanduser()


def parse_log_target(value: Any) -> str:
    """``stdout``, an absolute path, ``unix:///path`` or ``tcp://host:port``. Raises ValueError."""
    text = value.strip() if isinstance(value, str) and value.isprintable() else ""
    try:
        url = urlsplit(text)
        good = text == "stdout" or (text.startswith("/") and not text.endswith("/"))
        good = good or (url.scheme == "unix" and not url.netloc and url.path.startswith("/"))
        good = good or (url.scheme == "tcp" and bool(url.hostname) and bool(url.port))
    except ValueError:
        good = False
    if not good:
        raise ValueError("expected stdout, an absolute path, unix:///path or tcp://host:port")
    return text


def parse_domain(value: Any) -> str:
    """A DNS name below the root, in lower case and without its last dot (RFC 1035 section 2.3.1).

    Underscores are let through, since labels of services have them. Raises ValueError.
    """
    name = value.strip().lower().removesuffix(".") if isinstance(value, str) else ""
    if len(name) > 200 or not all(_NAME.fullmatch(label) for label in name.split(".")):
        raise ValueError("expected a DNS name, such as docker or svc.example")
    return name


def parse_label(value: Any) -> str:
    """One DNS label in lower case: 1 to 63 letters, digits, hyphens and underscores. Raises ValueError."""
    name = value.strip().lower() if isinstance(value, str) else ""
    if not _NAME.fullmatch(name):
        raise ValueError("expected one DNS label: up to 63 letters, digits, hyphens and underscores")
    return name


def parse_docker_url(value: Any) -> str:
    """``unix:``, ``tcp:``, ``http:``, ``https:`` or ``ssh:`` with what belongs to it. Raises ValueError."""
    text = value.strip() if isinstance(value, str) else ""
    if text.startswith("/"):
        raise ValueError(f"expected a URL: unix://{text}")
    if text.startswith("context:"):  # those that there are have been replaced by what they stand for
        raise ValueError(
            "expected a context that `docker context ls` shows to the user that discoverd runs as"
        )
    try:
        url = urlsplit(text)
        good = url.scheme == "unix" and not url.netloc and url.path.startswith("/")
        good = good or (
            url.scheme in {"tcp", "http", "https", "ssh"} and bool(url.hostname) and url.port != 0
        )
        good = good and (url.username is None or (url.scheme == "ssh" and url.password is None))
        good = good and not (url.scheme == "ssh" and (url.query or url.fragment or ":" in url.path))
    except ValueError:
        good = False
    if not good or not text.isprintable():
        raise ValueError("expected unix:///path, tcp://host:port or ssh://user@host")
    return text


def parse_http_url(value: Any) -> str:
    """An ``http://`` or ``https://`` address without its last slash. Raises ValueError."""
    text = value.strip() if isinstance(value, str) else ""
    try:
        url = urlsplit(text)
        good = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0 and text.isprintable()
    except ValueError:
        good = False
    if not good or url.username is not None or url.query or url.fragment:
        raise ValueError("expected http://host:port or https://host:port")
    return text.rstrip("/")


def parse_port(value: Any) -> PortSpec:
    """A number, ``[name=]port[/protocol]``, or a table with these keys. Raises ValueError."""
    expected = 'expected a port from 1 to 65535, "name=port/tcp" or { name, port, protocol }'
    if isinstance(value, PortSpec):
        return value
    if isinstance(value, dict):
        name, number, protocol = value.get("name", ""), value.get("port"), value.get("protocol", "tcp")
        if set(value) - {"name", "port", "protocol"}:
            raise ValueError(expected)
    else:
        text = str(value).strip()
        name, equals, rest = text.rpartition("=")
        number, slash, protocol = rest.partition("/")
        protocol = protocol if slash else "tcp"
        if equals and not name:
            raise ValueError(expected)
    digits = str(number) if isinstance(number, str | int) and not isinstance(number, bool) else ""
    good = re.fullmatch("[0-9]{1,5}", digits) and 1 <= int(digits) <= 65535
    if not good or not isinstance(protocol, str) or protocol.lower() not in {"tcp", "udp", "sctp"}:
        raise ValueError(expected)
    if name and not (isinstance(name, str) and _NAME.fullmatch(name.lower())):
        raise ValueError(expected)
    return PortSpec(int(digits), protocol.lower(), str(name).lower())


def _meta(value: Any) -> tuple[tuple[str, str], ...]:
    expected = 'expected a table of texts, such as { version = "1.2" }'
    if isinstance(value, tuple):
        return value
    if not isinstance(value, dict):
        raise ValueError(expected)  # noqa: TRY004  # pydantic takes a TypeError for a fault of ours
    pairs = []
    for key, entry in value.items():
        text = str(entry).lower() if isinstance(entry, bool) else str(entry)
        if isinstance(entry, dict | list):
            raise ValueError(expected)  # noqa: TRY004  # pydantic takes a TypeError for a fault of ours
        if not key or not key.isascii() or not key.isprintable() or "=" in key:
            raise ValueError("expected keys of printable ASCII without = (RFC 6763 section 6.4)")
        if len(key.encode()) + 1 + len(text.encode()) > 255:
            raise ValueError("expected at most 254 bytes in a key and its text (RFC 6763 section 6.1)")
        pairs.append((key, text))
    return tuple(pairs)


def parse_template(value: Any) -> str:
    """A pattern with one ``{field}`` of TEMPLATE_FIELDS or ``{label:KEY}`` at least. Raises ValueError."""
    fields = re.findall(r"\{([^{}]*)\}", value) if isinstance(value, str) else []
    good = bool(fields) and not set(re.sub(r"\{[^{}]*\}", "", value)) & set("{}")
    if not good or not all(
        f in TEMPLATE_FIELDS or (f.startswith("label:") and f != "label:") for f in fields
    ):
        known = ", ".join(f"{{{name}}}" for name in sorted(TEMPLATE_FIELDS))
        raise ValueError(f"expected a template with {known} or {{label:KEY}}")
    return str(value)


def label_or_none(value: Any) -> str:
    """A label, or nothing: the empty text. Raises ValueError."""
    return "" if value == "" else parse_label(value)


def _listen_or_off(value: Any) -> Endpoint | None:
    return None if value is None or value == "off" else parse_listen(value)


def _off_or_text(value: object) -> str:
    return "off" if value is None else str(value)


_AS_TEXT = PlainSerializer(str, return_type=str)
_OFF_OR_TEXT = PlainSerializer(_off_or_text, return_type=str)

Boolean = Annotated[bool, PlainValidator(_boolean)]
Switch = Annotated[bool, PlainValidator(_switch)]
Text = Annotated[str, PlainValidator(_text)]
Identity = Annotated[str | None, PlainValidator(_identity)]
Secret = Annotated[SecretStr, PlainValidator(_secret), PlainSerializer(lambda _: "***", return_type=str)]
Seconds = Annotated[int, whole(0, MAX_TTL_SECONDS, f"whole seconds from 0 to {MAX_TTL_SECONDS}")]
PortNumber = Annotated[int, whole(1, 65535, "a port from 1 to 65535")]
IP = Annotated[IPv4Address | IPv6Address, PlainValidator(parse_ip), _AS_TEXT]
Network = Annotated[IPv4Network | IPv6Network, PlainValidator(parse_network), _AS_TEXT]
Listen = Annotated[Endpoint, PlainValidator(parse_listen), _AS_TEXT]
ListenOrOff = Annotated[Endpoint | None, PlainValidator(_listen_or_off), _OFF_OR_TEXT]
PathOrOff = Annotated[Path | None, PlainValidator(path_or_off), _OFF_OR_TEXT]
Upstream = Annotated[Endpoint, PlainValidator(parse_upstream), _AS_TEXT]
Domain = Annotated[str, PlainValidator(parse_domain)]
LogTarget = Annotated[str, PlainValidator(parse_log_target)]
Label = Annotated[str, PlainValidator(parse_label)]
DockerUrl = Annotated[str, PlainValidator(parse_docker_url)]
HttpUrl = Annotated[str, PlainValidator(parse_http_url)]
Template = Annotated[str, PlainValidator(parse_template)]
ServicePort = Annotated[PortSpec, PlainValidator(parse_port), _AS_TEXT]
Meta = Annotated[
    tuple[tuple[str, str], ...], PlainValidator(_meta), PlainSerializer(dict, return_type=dict[str, str])
]
