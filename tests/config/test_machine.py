from __future__ import annotations

import socket
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from discoverd.config.endpoints import Endpoint, parse_listen
from discoverd.config.machine import (
    Machine,
    default_state_dir,
    default_upstreams,
    own_networks,
    this_machine,
)
from discoverd.interfaces import interfaces

INTERFACES = (ip_interface("127.0.0.1/8"), ip_interface("10.1.2.3/24"), ip_interface("10.1.2.4/24"))


def upstreams(resolv_conf: str, *listen: str) -> list[str]:
    machine = Machine(interfaces=INTERFACES, resolv_conf=resolv_conf)
    return [str(server) for server in default_upstreams(machine, [parse_listen(text) for text in listen])]


def test_the_name_servers_of_resolv_conf_each_once() -> None:
    text = "search lan\nnameserver 9.9.9.9\n nameserver 1.1.1.1\nnameserver\t2620:fe::fe\n"
    text += "nameserver 9.9.9.9\nnameserver x\n"
    assert upstreams(text) == ["9.9.9.9:53", "[2620:fe::fe]:53"]


@pytest.mark.parametrize(
    ("listen", "left"),
    [
        ("127.0.0.1:1053", ["127.0.0.1:53", "10.1.2.3:53", "9.9.9.9:53"]),
        ("127.0.0.1:53", ["10.1.2.3:53", "9.9.9.9:53"]),
        ("10.1.2.3:53", ["127.0.0.1:53", "9.9.9.9:53"]),
        ("0.0.0.0:53", ["9.9.9.9:53"]),
        (":53", ["9.9.9.9:53"]),
        (":1053", ["127.0.0.1:53", "10.1.2.3:53", "9.9.9.9:53"]),
    ],
)
def test_discoverd_itself_is_no_upstream(listen: str, left: list[str]) -> None:
    assert upstreams("nameserver 127.0.0.1\nnameserver 10.1.2.3\nnameserver 9.9.9.9\n", listen) == left


@pytest.mark.parametrize(
    ("comment", "left"),
    [
        ("", ["127.0.0.11:53"]),  # Docker before 25 does not say whom it asks
        ("# ExtServers: [host(10.9.9.9) 8.8.8.8]", ["10.9.9.9:53", "8.8.8.8:53"]),
        (
            "# ExtServers: [host(127.0.0.53)]",
            ["127.0.0.11:53"],
        ),  # the host's loopback is out of reach from here
        ("# ExtServers: [10.1.2.3]", []),  # Docker itself asks us: a loop
    ],
)
def test_inside_a_container_the_embedded_server_is_passed_over(comment: str, left: list[str]) -> None:
    assert upstreams(f"nameserver 127.0.0.11\noptions ndots:0\n{comment}\n", "0.0.0.0:53") == left


def test_networks_once_for_two_addresses_on_one() -> None:
    networks = own_networks(Machine(interfaces=INTERFACES))
    assert networks == (ip_network("127.0.0.0/8"), ip_network("10.1.2.0/24"))


def test_the_kernel_tells_the_addresses_of_this_machine() -> None:
    found = {interface.ip: interface for interface in interfaces()}
    assert found[ip_address("127.0.0.1")].network == ip_network("127.0.0.0/8")
    # the address that a packet to elsewhere would leave from is one of them; nothing is sent
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))
        except OSError:
            pytest.skip("this machine has no route out")
        assert ip_address(probe.getsockname()[0]) in found


def test_this_machine_can_be_asked() -> None:
    assert this_machine().interfaces == interfaces()


@pytest.mark.parametrize(
    ("environ", "is_root", "expected"),
    [
        ({"HOME": "/home/a"}, False, "/home/a/.local/state/discoverd"),
        ({"HOME": "/home/a", "XDG_STATE_HOME": "/s"}, False, "/s/discoverd"),
        ({"HOME": "/home/a", "XDG_STATE_HOME": "s"}, False, "/home/a/.local/state/discoverd"),
        ({"HOME": "/root"}, True, "/var/lib/discoverd"),
        ({"STATE_DIRECTORY": "/var/lib/x:/var/lib/y"}, True, "/var/lib/x"),
        ({}, False, None),
    ],
)
def test_where_state_is_kept(environ: dict[str, str], is_root: bool, expected: str | None) -> None:
    found = default_state_dir(environ, Machine(is_root=is_root))
    assert found == (None if expected is None else Path(expected))


def test_a_server_address_is_not_confused_with_a_listener_on_another_port() -> None:
    machine = Machine(resolv_conf="nameserver 127.0.0.1\n")
    assert default_upstreams(machine, [Endpoint(ip_address("127.0.0.1"), 5353)]) == (
        Endpoint(ip_address("127.0.0.1"), 53),
    )
