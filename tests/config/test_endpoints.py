from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from discoverd.config.endpoints import Endpoint, parse_ip, parse_listen, parse_network, parse_upstream


@pytest.mark.parametrize(
    ("text", "ip", "port", "shown"),
    [
        ("127.0.0.1:53", "127.0.0.1", 53, "127.0.0.1:53"),
        ("[::1]:53", "::1", 53, "[::1]:53"),
        (" 10.0.0.1:0 ", "10.0.0.1", 0, "10.0.0.1:0"),
        ("[fe80::1%eth0]:53", "fe80::1%eth0", 53, "[fe80::1%eth0]:53"),
        ("0.0.0.0:65535", "0.0.0.0", 65535, "0.0.0.0:65535"),
        ("LocalHost:1053", "127.0.0.1", 1053, "127.0.0.1:1053"),
    ],
)
def test_listen_addresses(text: str, ip: str, port: int, shown: str) -> None:
    endpoint = parse_listen(text)
    assert (endpoint.ip, endpoint.port, str(endpoint)) == (ip_address(ip), port, shown)
    assert parse_listen(str(endpoint)) == endpoint


@pytest.mark.parametrize("text", [":53", "*:53"])
def test_every_address(text: str) -> None:
    endpoint = parse_listen(text)
    assert endpoint == Endpoint(None, 53)
    assert (endpoint.host, endpoint.is_wildcard, endpoint.is_loopback, str(endpoint)) == (
        "",
        True,
        False,
        ":53",
    )


@pytest.mark.parametrize(
    "text",
    ["", "53", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1", "1.2.3:53",
     "web:53", "::1:53", "[::1]", "[::1]53", "[::1:53", "[127.0.0.1:53]", "127.0.0.1:\u0663", "010.0.0.1:53",
     53, None, True, []],
)  # fmt: skip
def test_what_is_no_listen_address(text: object) -> None:
    with pytest.raises(ValueError, match="expected an IP address and a port"):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("9.9.9.9", "9.9.9.9:53"),
        ("9.9.9.9:5353", "9.9.9.9:5353"),
        ("2620:fe::fe", "[2620:fe::fe]:53"),
        ("[2620:fe::fe]", "[2620:fe::fe]:53"),
        ("[2620:fe::fe]:853", "[2620:fe::fe]:853"),
    ],
)
def test_upstreams_have_port_53_unless_told(text: str, shown: str) -> None:
    assert str(parse_upstream(text)) == shown


@pytest.mark.parametrize("text", ["", ":53", "0.0.0.0", "[::]:53", "9.9.9.9:0", "dns.example", 5])
def test_what_is_no_upstream(text: object) -> None:
    with pytest.raises(ValueError, match="expected an IP address with or without a port"):
        parse_upstream(text)


def test_ranges_drop_their_host_bits() -> None:
    assert parse_network("10.1.2.3/8") == ip_network("10.0.0.0/8")
    assert parse_network("fd00::1") == ip_network("fd00::1/128")
    with pytest.raises(ValueError, match="expected a range of addresses"):
        parse_network("10.0.0.0/33")


def test_an_address_is_no_name() -> None:
    assert parse_ip("2001:DB8::1") == ip_address("2001:db8::1")
    with pytest.raises(ValueError, match="expected an IP address"):
        parse_ip("web")
