"""Random instances over few names, networks and addresses, so that they get in each other's way."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from discoverd.model import Address, Health, Instance, Link, Membership, Port, State
from tests.build import ENGINE, NETWORKS

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVICES = ["web", "db", "shop"]
SCOPES = ["", "shop", "blog"]
NETS = ["shop_default", "edge", "shop"]
EXTRA = ["web.shop", "all.web", "x.all.web", "*.a", "b.a", "x.b.a", "www", "db"]
FREE = ["192.0.2.1", "2001:db8::1"]
TAGS = ["web", "all", "v1", "2"]
PORTS = [Port(80), Port(8080, published=80), Port(53, "udp"), Port(9000, name="ui", published=32768)]


def some(items: Sequence[Any], most: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(items), max_size=most, unique=True).map(tuple)


@st.composite
def instances(draw: st.DrawFn, ids: Sequence[str] = ("a", "b", "c")) -> Instance:
    ident = draw(st.sampled_from(ids))
    memberships = tuple(
        Membership(net, f"{ENGINE}/{net}", draw(some(["www", "db"], 1))) for net in draw(some(NETS))
    )
    last = draw(st.integers(2, 4))
    addresses = tuple(
        Address(ip_address(f"10.{NETWORKS[m.network]}.0.{last}"), m.network, m.network_id)
        for m in memberships
        if draw(st.booleans())
    )
    return Instance(
        id=ident,
        service=draw(st.sampled_from(SERVICES)),
        source=ENGINE,
        scope=draw(st.sampled_from(SCOPES)),
        state=draw(st.sampled_from([State.RUNNING, State.RUNNING, *State])),
        health=draw(st.sampled_from([Health.HEALTHY, *Health])),
        addresses=addresses
        or tuple(Address(ip_address(a)) for a in draw(some(["192.0.2.1", "2001:db8::1"]))),
        ports=draw(some(PORTS)),
        tags=draw(some(TAGS, 1)),
        meta=draw(some([("a", "1"), ("b", "2")])),
        weight=draw(st.sampled_from([0, 1, 3])),
        ttl=draw(st.sampled_from([None, 0, 60])),
        replica=draw(st.sampled_from([None, 1, 2])),
        in_service=draw(st.sampled_from([True, True, False])),
        own_names=draw(some(["shop-web-1", "db", ident], 1)),
        unique=f"unique-{ident}",
        hostname=draw(st.sampled_from(["", "", "www"])),
        extra_names=draw(some(EXTRA)),
        memberships=memberships,
        links=draw(some([Link("talkto", "shop-web-1"), Link("db", "a")], 1)),
        on_host=draw(st.sampled_from([False, False, False, True])),
        host_address=draw(st.sampled_from([None, ip_address("192.168.7.1")])),
        started_at=draw(st.sampled_from([1.0, 2.0])),
    )


def of_source(instance: Instance, source: str) -> Instance:
    return replace(instance, source=source)
