"""IP addresses, ranges and endpoints as people write them.

Every parser takes its own results as well as text, and raises a ValueError that says what was expected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen, or whom to ask: an IP address and a port from 0 to 65535.

    ``ip`` is None for ``:53``: every IPv4 and IPv6 address of the machine.
    """

    ip: IPv4Address | IPv6Address | None
    port: int

    @property
    def host(self) -> str:
        """The address as text, empty for every address."""
        return "" if self.ip is None else str(self.ip)

    @property
    def is_wildcard(self) -> bool:
        return self.ip is None or self.ip.is_unspecified

    @property
    def is_loopback(self) -> bool:
        return self.ip is not None and self.ip.is_loopback

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if isinstance(self.ip, IPv6Address) else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TlsServer(Endpoint):
    """A name server that is asked by DNS over TLS. ``name`` is what its certificate must be for; empty
    for its address.
    """

    name: str = ""

    def __str__(self) -> str:
        host = f"[{self.ip}]" if isinstance(self.ip, IPv6Address) else self.host
        return f"tls://{host}:{self.port}{'#' * bool(self.name)}{self.name}"


def parse_ip(value: Any) -> IPv4Address | IPv6Address:
    """An IP address; raises ValueError for anything else, names included."""
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    try:
        return ip_address(value.strip())
    except (AttributeError, ValueError):
        raise ValueError("expected an IP address, such as 10.0.0.1 or 2001:db8::1") from None


def _split(text: str) -> tuple[str, str | None]:
    """Take ``host:port`` apart; an IPv6 address without brackets is all host."""
    if text.startswith("["):
        host, closing, rest = text[1:].partition("]")
        if closing and (not rest or rest.startswith(":")):
            return host, rest[1:] if rest else None
        raise ValueError
    if text.count(":") > 1:
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _endpoint(value: Any, *, expected: str, low: int, default: int | None, wildcard: bool) -> Endpoint:
    if isinstance(value, Endpoint):
        return value
    try:
        host, port = _split(value.strip())
        number = default if port is None else int(port) if re.fullmatch("[0-9]{1,5}", port) else None
        if number is None or not low <= number <= 65535:
            raise ValueError  # noqa: TRY301
        if wildcard and host in {"", "*"}:
            return Endpoint(None, number)
        ip = ip_address("127.0.0.1" if host.lower() == "localhost" else host)
        if ip.is_unspecified and not wildcard:
            raise ValueError  # noqa: TRY301
        return Endpoint(ip, number)
    except (AttributeError, ValueError):
        raise ValueError(expected) from None


def parse_listen(value: Any) -> Endpoint:
    """``127.0.0.1:53``, ``[::1]:53`` or ``:53``; the port is required and may be 0. Raises ValueError."""
    expected = "expected an IP address and a port, such as 127.0.0.1:53, [::1]:53 or :53 for every address"
    return _endpoint(value, expected=expected, low=0, default=None, wildcard=True)


def parse_upstream(value: Any) -> Endpoint:
    """``9.9.9.9``, ``9.9.9.9:53``, ``[2620:fe::fe]:53``, ``tls://9.9.9.9#dns.quad9.net``; port 53 by
    default, 853 for TLS. Raises ValueError.
    """
    expected = (
        "expected an IP address with or without a port, such as 9.9.9.9 or [2620:fe::fe]:53,"
        " or tls://9.9.9.9#dns.quad9.net"
    )
    if isinstance(value, str) and value.strip().lower().startswith("tls://"):
        where, _, name = value.strip()[len("tls://") :].partition("#")
        if name and not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name):
            raise ValueError(expected)
        end = _endpoint(where, expected=expected, low=1, default=853, wildcard=False)
        return TlsServer(end.ip, end.port, name.lower())
    return _endpoint(value, expected=expected, low=1, default=53, wildcard=False)


def parse_network(value: Any) -> IPv4Network | IPv6Network:
    """A range of addresses; host bits are dropped, a lone address is a range of one. Raises ValueError."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        return ip_network(value.strip(), strict=False)
    except (AttributeError, ValueError):
        raise ValueError("expected a range of addresses, such as 10.0.0.0/8 or fd00::/8") from None
