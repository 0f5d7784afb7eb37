from __future__ import annotations

import re
import socket

import pytest

from discoverd.resolver.iana import NAMES, PORTS, service_names


def test_names_are_fit_for_srv() -> None:
    """RFC 6335 section 5.1: 1 to 15 letters, digits and single hyphens, at least one letter."""
    for name in PORTS:
        assert re.fullmatch(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*", name)


def test_names_are_in_order_and_ports_are_ports() -> None:
    assert list(PORTS) == sorted(PORTS)
    assert all(0 < port < 65536 for ports in PORTS.values() for port in ports)
    assert all(ports for ports in PORTS.values())


def test_what_the_machine_knows_of_these_names_agrees() -> None:
    checked = 0
    for name, (port, *_) in PORTS.items():
        try:
            known = socket.getservbyname(name)
        except OSError:
            continue
        assert known == port, name
        checked += 1
    if not checked:
        pytest.skip("this machine has no /etc/services")


@pytest.mark.parametrize(
    ("port", "given", "names"),
    [
        (80, "", ("http",)),
        (8080, "", ("http", "http-alt")),
        (8443, "", ("https", "https-alt")),
        (80, "ui", ("ui",)),
        (12345, "", ("12345",)),
    ],
)
def test_names_of_a_port(port: int, given: str, names: tuple[str, ...]) -> None:
    assert service_names(port, given) == names


def test_every_port_has_its_names() -> None:
    assert {(n, p) for p, names in NAMES.items() for n in names} == {
        (n, p) for n, ports in PORTS.items() for p in ports
    }
