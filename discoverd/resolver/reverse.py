"""PTR: addresses to names (RFC 1035 section 3.5, RFC 3596 section 2.5)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TYPE_CHECKING

from discoverd.model import Instance, State
from discoverd.resolver.outcome import ANY, PTR, Answer, NameData, NoData, NotOurs, NxDomain, Outcome, Record
from discoverd.resolver.records import effective_ttl

if TYPE_CHECKING:
    from discoverd.model import IPAddress
    from discoverd.resolver.local import Local
    from discoverd.resolver.outcome import Question

V4, V6 = ".in-addr.arpa", ".ip6.arpa"


def is_reverse(name: str) -> bool:
    return name.endswith((V4, V6))


def address_of(name: str) -> IPAddress | None:
    """The address a complete reverse name stands for, else None."""
    if name.endswith(V4):
        octets = name.removesuffix(V4).split(".")[::-1]
        if len(octets) == 4 and all(o.isdecimal() and str(int(o)) == o and int(o) < 256 for o in octets):
            return IPv4Address(".".join(octets))
    elif name.endswith(V6):
        nibbles = name.removesuffix(V6).split(".")[::-1]
        if len(nibbles) == 32 and all(len(n) == 1 and n in "0123456789abcdef" for n in nibbles):
            return IPv6Address(int("".join(nibbles), 16))
    return None


def dependency(address: IPAddress) -> str:
    """The key under which answers about an address are dropped when it changes."""
    return address.reverse_pointer


def resolve(local: Local, question: Question) -> Outcome:
    """PTR of addresses that the registry holds; NXDOMAIN for others inside known container subnets."""
    address = address_of(question.name)
    if address is None:
        return NotOurs()
    depends = (dependency(address),)
    held = [i for i in local.registry.at(address) if i.state is not State.STOPPED]
    zone = _zone(local, address)
    if held:
        if question.type not in (PTR, ANY):
            return NoData(local.soa(zone or question.name), depends)
        names = dict.fromkeys(name for instance in held for name in _most_specific_first(instance))
        ttl = effective_ttl(held, local.settings.ttl)
        domain = local.settings.domains[0]
        records = tuple(Record(PTR, ttl, NameData(f"{name}.{domain}")) for name in names)
        return Answer(records, (), depends, rotate=False)
    if zone is None:
        return NotOurs()
    return local.unsure() if local.registry.syncing else NxDomain(local.soa(zone), depends)


def _most_specific_first(instance: Instance) -> list[str]:
    """Own name, replica name, service name; at least one."""
    names = list(instance.own_names[:1])
    if instance.in_service:
        qualified = f"{instance.service}.{instance.scope}" if instance.scope else instance.service
        if instance.replica is not None and instance.scope:
            names.append(f"{instance.replica}.{qualified}")
        names.append(qualified)
    return names or [instance.unique]


def _zone(local: Local, address: IPAddress) -> str | None:
    """The reverse zone, cut at whole octets or nibbles inside a known container subnet; None outside."""
    step = 8 if address.version == 4 else 4
    for network in local.registry.networks():
        for subnet in network.subnets:
            if address in subnet:
                bits = min(-(-subnet.prefixlen // step) * step, address.max_prefixlen - step)
                around = ip_network((address, bits), strict=False)
                labels = address.reverse_pointer.split(".")
                keep = around.prefixlen // step
                total = address.max_prefixlen // step
                return ".".join(labels[total - keep :])
    return None
