"""PTR: addresses to names (RFC 1035 section 3.5, RFC 3596 section 2.5)."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from discoverd.model import Instance, State
from discoverd.resolver.outcome import (
    ANY,
    NS,
    PTR,
    SOA,
    Answer,
    NameData,
    NoData,
    NotOurs,
    NxDomain,
    Outcome,
    Record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoverd.model import IPAddress, IPNetwork
    from discoverd.resolver.local import Local
    from discoverd.resolver.outcome import Question

V4, V6 = ".in-addr.arpa", ".ip6.arpa"
#: Characters of a name, RFC 1035 section 2.3.4 without the octets of the root and the first length.
MAX_NAME = 253
HEX = "0123456789abcdef"


def is_reverse(name: str) -> bool:
    return name.endswith((V4, V6))


def block_of(name: str) -> tuple[IPNetwork, bool]:
    """The smallest block of addresses whose reverse zone a name is in, and whether it is its very name."""
    v4 = name.endswith(V4)
    labels = name.removesuffix(V4 if v4 else V6).split(".")[::-1]
    parts: list[int] = []
    for label in labels[: 4 if v4 else 32]:
        if v4 and not (label.isdecimal() and str(int(label)) == label and int(label) < 256):
            break
        if not v4 and not (len(label) == 1 and label in HEX):
            break
        parts.append(int(label) if v4 else int(label, 16))
    exact = len(parts) == len(labels)
    if v4:
        packed = bytes(parts).ljust(4, b"\0")
        return IPv4Network((packed, 8 * len(parts))), exact
    number = int("".join(f"{part:x}" for part in parts).ljust(32, "0"), 16)
    return IPv6Network((number, 4 * len(parts))), exact


def dependency(address: IPAddress) -> str:
    """The key under which answers about an address are dropped when it changes."""
    return address.reverse_pointer


def resolve(local: Local, question: Question) -> Outcome:
    """PTR of addresses that the registry holds; NXDOMAIN for others inside known container subnets.

    Whole octets or nibbles inside such a subnet are zones; they have SOA and NS.
    """
    block, exact = block_of(question.name)
    zone = _zone(local, block)
    if not exact:
        return NotOurs() if zone is None else NxDomain(local.soa(zone))
    if block.prefixlen < block.max_prefixlen:
        return NotOurs() if zone is None else _between(local, question, zone)
    address = block.network_address
    depends = (dependency(address),)
    held = [i for i in local.registry.at(address) if i.state is not State.STOPPED]
    if held and question.type in (PTR, ANY):
        return Answer(tuple(_pointers(local, held)), (), depends, rotate=False)
    if held:
        return NoData(local.soa(zone or question.name), depends)
    if local.registry.syncing and (zone or _may_be_container(address)):
        return local.unsure()
    return NotOurs() if zone is None else NxDomain(local.soa(zone), depends)


def address_of(name: str) -> IPAddress | None:
    """The address a complete reverse name stands for, else None."""
    if not is_reverse(name):
        return None
    block, exact = block_of(name)
    return block.network_address if exact and block.prefixlen == block.max_prefixlen else None


def _between(local: Local, question: Question, zone: str) -> Outcome:
    """A zone's own records; what is between it and its addresses has none."""
    if question.name == zone and question.type == SOA:
        return Answer((local.soa(zone),))
    if question.name == zone and question.type == NS:
        return Answer((Record(NS, local.settings.ttl, NameData(f"ns.{local.settings.domains[0]}")),))
    return NoData(local.soa(zone))


def _pointers(local: Local, held: list[Instance]) -> Iterator[Record]:
    ttl, domain = local.ttl_of(held), local.settings.domains[0]
    for name in dict.fromkeys(name for instance in held for name in _most_specific_first(instance)):
        if len(name) + 1 + len(domain) <= MAX_NAME:
            yield Record(PTR, ttl, NameData(f"{name}.{domain}"))


def _most_specific_first(instance: Instance) -> list[str]:
    """Own name, replica name, service name; at least one."""
    names = list(instance.own_names[:1])
    if instance.in_service:
        qualified = f"{instance.service}.{instance.scope}" if instance.scope else instance.service
        if instance.replica is not None:
            names.append(f"{instance.replica}.{qualified}")
        names.append(qualified)
    return names or [instance.unique]


def _zone(local: Local, block: IPNetwork) -> str | None:
    """The reverse zone, cut at whole octets or nibbles inside a known container subnet; None outside."""
    step = 8 if block.version == 4 else 4
    for network in local.registry.networks():
        for subnet in network.subnets:
            bits = min(-(-subnet.prefixlen // step) * step, subnet.max_prefixlen - step)
            if block.version == subnet.version and block.prefixlen >= bits and block.overlaps(subnet):
                labels = block.network_address.reverse_pointer.split(".")
                return ".".join(labels[(block.max_prefixlen - bits) // step :])
    return None


def _may_be_container(address: IPAddress) -> bool:
    """Whether an engine that has not said anything yet may have given an address to a container."""
    return address.is_private and not address.is_loopback and not address.is_link_local
