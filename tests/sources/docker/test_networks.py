from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from discoverd.sources.docker.listing import fingerprints
from discoverd.sources.docker.networks import is_temporary, parse_networks, split_port
from tests.sources.docker.recorded import ENGINES, load, networks


@pytest.mark.parametrize("engine", ENGINES)
def test_recorded_networks(engine: str) -> None:
    known = networks(engine)
    found = {n.name: n for n in known.networks}
    assert sorted(found) == ["bridge", "quiet", "shop_default", "shop_edge", "six"]
    assert found["six"].subnets == (ip_network("172.30.9.0/24"), ip_network("fd00:9::/64"))
    assert found["six"].gateways == (ip_address("172.30.9.1"), ip_address("fd00:9::1"))
    assert [name for name, n in found.items() if n.internal] == ["quiet"]
    for network in found.values():
        assert network.id == f"local/{known.ids[network.name]}"
        assert all(g in s for g, s in zip(network.gateways, network.subnets, strict=True))
    assert known.knows("host")
    assert not known.knows("elsewhere")


@pytest.mark.parametrize("engine", ENGINES)
def test_bridges_and_what_compose_calls_its_networks(engine: str) -> None:
    known = networks(engine)
    for network in known.networks:
        key = known.ids[network.name]
        assert network.bridge == ("docker0" if network.name == "bridge" else f"br-{key[:12]}")
        name = network.name.removeprefix("shop_")
        assert known.composed.get(key) == (("shop", name) if network.name.startswith("shop_") else None)
    assert made(Options={"com.docker.network.bridge.name": "wire"}).bridge == "wire"
    assert made(Driver="macvlan").bridge == ""


@pytest.mark.parametrize("engine", ENGINES)
def test_the_order_of_the_list_is_no_change(engine: str) -> None:
    assert parse_networks(reversed(load(engine, "networks")), "local") == networks(engine)


def made(**values: Any) -> Any:
    doc = {"Name": "n", "Id": "1", "Driver": "bridge", "IPAM": {"Config": [{"Subnet": "10.1.0.0/16"}]}}
    (network,) = parse_networks([doc | values], "e").networks
    return network


@pytest.mark.parametrize(
    ("config", "gateway"),
    [  # measured: what the bridge of a network made so has
        ({"Subnet": "172.30.0.0/16"}, "172.30.0.1"),
        ({"Subnet": "172.30.0.0/16", "IPRange": "172.30.5.0/24"}, "172.30.5.0"),
        ({"Subnet": "172.30.0.0/16", "IPRange": "172.30.0.0/24"}, "172.30.0.1"),
        ({"Subnet": "172.30.0.0/16", "Gateway": "172.30.9.9"}, "172.30.9.9"),
        ({"Subnet": "172.30.0.0/16", "Gateway": "172.30.9.9/16"}, "172.30.9.9"),
        ({"Subnet": "fd00:8::/64"}, "fd00:8::1"),
    ],
)
def test_gateways(config: dict[str, str], gateway: str) -> None:
    assert made(IPAM={"Config": [config]}).gateways == (ip_address(gateway),)


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan", "overlay"])
def test_only_a_bridge_has_its_gateway_on_this_host(driver: str) -> None:
    network = made(Driver=driver)
    assert (network.gateways, network.subnets) == ((), (ip_network("10.1.0.0/16"),))


@pytest.mark.parametrize(
    "ipam", [None, {}, {"Config": None}, {"Config": [None, {}, {"Subnet": "x", "Gateway": ""}]}]
)
def test_networks_without_addresses(ipam: Any) -> None:
    network = made(IPAM=ipam)
    assert (network.subnets, network.gateways) == ((), ())


def test_swarms_ingress_is_nobodys_network() -> None:
    known = parse_networks([{"Name": "ingress", "Id": "1", "Driver": "overlay", "Ingress": True}], "e")
    assert known.networks == ()
    assert known.knows("ingress")


@pytest.mark.parametrize(
    ("key", "port"),
    [
        ("80/tcp", (80, "tcp")),
        ("53/udp", (53, "udp")),
        ("5432", (5432, "tcp")),
        ("0/tcp", None),
        ("65536/tcp", None),
        ("", None),
        ("80-90/tcp", None),
        ("\u0661/tcp", None),
    ],
)
def test_ports(key: str, port: tuple[int, str] | None) -> None:
    assert split_port(key) == port


def test_temporary_names() -> None:
    assert is_temporary("40ee78b6545b_shop-web-2")
    assert not is_temporary("shop_web_2")
    assert not is_temporary("40ee78b6545b")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fingerprint_changes_with_what_is_served_and_not_with_time(engine: str) -> None:
    before = fingerprints(load(engine, "list"))
    assert len(before) == len(load(engine, "list"))

    def changed(edit: Any) -> int:
        docs = load(engine, "list")
        running = next(d for d in docs if d["Names"] == ["/plain.one"])
        edit(running)
        after = fingerprints(docs)
        return sum(before[key] != after[key] for key in before)

    assert changed(lambda d: d.update(Status="Up 3 hours")) == 0
    assert changed(lambda d: d.update(Status="Up 3 hours (unhealthy)")) == 1
    assert changed(lambda d: d.update(State="exited")) == 1
    assert changed(lambda d: d.update(Names=["/new"])) == 1
    assert changed(lambda d: d["NetworkSettings"]["Networks"]["six"].update(EndpointID="other")) == 1
    assert changed(lambda d: d.update(NetworkSettings=None)) == 1
