"""Names under ``.consul``, answered as Consul's own DNS answers them.

Pure over what the Consul source put into the catalog. The forms of names and what is answered to
which are Consul's (https://developer.hashicorp.com/consul/docs/discovery/dns); where discoverd
differs on purpose, docs/consul.md says so and why.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from discoverd.catalog import Lookup, node_key, service_key
from discoverd.resolver.outcome import (
    AAAA,
    ANY,
    NS,
    PTR,
    SOA,
    SRV,
    TXT,
    A,
    Answer,
    Fail,
    Later,
    NameData,
    NoData,
    NxDomain,
    Question,
    Record,
    SoaData,
    SrvData,
    TxtData,
)
from discoverd.resolver.reverse import address_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from discoverd.catalog import Catalog, Datacenter, Endpoint, Fetched, Node
    from discoverd.model import IPAddress
    from discoverd.resolver.outcome import Outcome

ZONE = "consul"
CNAME = 5  # RFC 1035 section 3.2.2
#: Labels that say what the labels before them name.
KINDS = frozenset({"service", "connect", "ingress", "node", "query", "addr"})
#: Kinds that only the agent itself can answer.
EXECUTED = frozenset({"connect", "ingress", "query"})
#: Priority of all SRV records, as Consul has it (RFC 2782).
PRIORITY = 1
#: Seconds. Consul's dns_config gives service_ttl, node_ttl and the SOA minimum 0 by default.
TTL = 0
#: How often a name may lead to another name.
DEPTH = 3
#: Name servers in an answer, as Consul limits them.
SERVERS_MOST = 3
MAX_STRING = 255  # octets, RFC 1035 section 3.3
#: What answers rest on that rest on nothing: an address is in its own name.
ALWAYS = ("addr.consul",)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question on its way to an answer: what that rests on, and how many names led here."""

    question: Question
    datacenter: str
    depends: tuple[str, ...]
    ttl: int = TTL
    depth: int = 0


class ConsulNames:
    """Answers names under ``.consul``. ``only_passing`` leaves out instances with a warning."""

    def __init__(
        self, catalog: Catalog, *, only_passing: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self._catalog, self.only_passing, self._clock = catalog, only_passing, clock

    @staticmethod
    def owns(name: str) -> bool:
        return name == ZONE or name.endswith("." + ZONE)

    def resolve(self, question: Question) -> Outcome:
        """Answer a name below ``.consul``; Later where the agent itself has to be asked."""
        if question.type == SOA:
            return Answer((self._soa(),), rotate=False)
        if question.type == NS:
            return self._name_servers()
        return self._resolve(question, 0)

    def reverse(self, question: Question, outcome: Outcome) -> Outcome:
        """PTR of a node's address where nobody else knows it (``outcome``)."""
        address, home = address_of(question.name), self._catalog.at(self._catalog.home)
        node = home.addresses.get(str(address)) if home and address else None
        if isinstance(outcome, Answer) or node is None or address is None or question.type not in (PTR, ANY):
            return outcome
        depends = (node_key(node.datacenter, node.name.lower()), address.reverse_pointer)
        return Answer((Record(PTR, TTL, NameData(_node_name(node))),), (), depends, rotate=False)

    def answer(self, question: Question, lookup: Lookup, fetched: Fetched) -> Outcome:
        """What the agent's own word answers to a question that had to wait for it."""
        asked = _Asked(question, fetched.datacenter, (), fetched.ttl)
        if lookup.kind == "node":
            return self._of_node(asked, fetched.node)
        return self._of_endpoints(asked, self._served(fetched.endpoints, lookup.tag))

    def _served(self, endpoints: Iterable[Endpoint], tag: str) -> list[Endpoint]:
        return [e for e in endpoints if e.served(only_passing=self.only_passing) and _has_tag(e, tag)]

    # -- names ----------------------------------------------------------------------------

    def _resolve(self, question: Question, depth: int) -> Outcome:
        lookup = parse(question, self._catalog.home)
        if lookup is None:
            return self._no_name()
        if lookup.kind == "addr":
            return self._address(question, lookup.name)
        if not self._catalog.home:
            return Fail("Consul's agent was not reached yet")
        held = self._catalog.at(lookup.datacenter)
        if held is None and lookup.datacenter not in self._catalog.datacenters:
            return self._no_name()
        if held is None or lookup.kind in EXECUTED:
            return Later(lookup)
        if not held.synced and not (held.restored and _is_known(held, lookup)):
            return Fail(f"first sync not complete: Consul's datacenter {lookup.datacenter}")
        if lookup.kind == "node":
            depends = (node_key(lookup.datacenter, lookup.name),)
            return self._of_node(
                _Asked(question, lookup.datacenter, depends, depth=depth), held.nodes.get(lookup.name)
            )
        depends = (service_key(lookup.datacenter, lookup.name),)
        served = self._served(held.services.get(lookup.name, ()), lookup.tag)
        return self._of_endpoints(_Asked(question, lookup.datacenter, depends, depth=depth), served)

    def _of_endpoints(self, asked: _Asked, endpoints: Sequence[Endpoint]) -> Outcome:
        if not endpoints:
            return self._no_name(asked.depends)
        wanted = asked.question.type
        if wanted == SRV:
            return self._srv(asked, endpoints)
        records: dict[Record, None] = {}
        alias = ""
        for endpoint in endpoints:
            target = target_of(endpoint, asked.question)
            if target is None:
                continue
            if isinstance(target.to, str):
                alias = alias or target.to
            elif wanted in (_type(target.to), ANY):
                records.setdefault(Record(_type(target.to), asked.ttl, target.to))
        if records:
            return Answer(tuple(records), (), asked.depends)
        return self._alias(asked, alias) if alias else self._no_data(asked.depends)

    def _srv(self, asked: _Asked, endpoints: Iterable[Endpoint]) -> Outcome:
        records: dict[tuple[str, str, int], Record] = {}
        extra: dict[Record, None] = {}
        depends = asked.depends
        for endpoint in endpoints:
            key = endpoint.node.name, endpoint.address, endpoint.port
            target = target_of(endpoint, asked.question)
            if key in records or target is None:
                continue
            if isinstance(target.to, str):
                name, depends = target.to.rstrip("."), ()  # whatever that name rests on
                extra |= dict.fromkeys(self._beyond(name, asked.depth))
            else:
                by_address = f"{target.to.packed.hex()}.addr.{asked.datacenter}.{ZONE}"
                name = _node_name(endpoint.node) if target.of_node else by_address
                extra.setdefault(Record(_type(target.to), asked.ttl, target.to, name))
            data = SrvData(PRIORITY, endpoint.weight, endpoint.port, name)
            records[key] = Record(SRV, asked.ttl, data)
        return Answer(tuple(records.values()), tuple(extra), depends) if records else self._no_data(depends)

    def _of_node(self, asked: _Asked, node: Node | None) -> Outcome:
        if node is None:
            return self._no_name(asked.depends)
        wanted, depends = asked.question.type, asked.depends
        address = _ip(node.address)
        if address is None:
            return self._alias(asked, node.address)
        texts = tuple(Record(TXT, TTL, text) for text in meta_texts(node.meta))
        if wanted == TXT:
            return Answer(texts, (), depends) if texts else self._no_data(depends)
        if wanted not in (_type(address), ANY):
            return self._no_data(depends)
        records = (Record(_type(address), TTL, address), *(texts if wanted == ANY else ()))
        return Answer(records, (), depends)

    def _alias(self, asked: _Asked, name: str) -> Answer:
        """A host name in place of an address. Not kept: it rests on what the other name rests on."""
        name = name.rstrip(".")
        cname = Record(CNAME, asked.ttl, NameData(name))
        return Answer((cname, *self._beyond(name, asked.depth)), (), (), rotate=False)

    def _beyond(self, name: str, depth: int) -> tuple[Record, ...]:
        """The addresses of a name that another leads to; those outside ``.consul`` are not looked up."""
        if not self.owns(name.lower()) or depth >= DEPTH:
            return ()
        records: list[Record] = []
        for wanted in (A, AAAA):
            outcome = self._resolve(Question(name.lower(), wanted), depth + 1)
            if isinstance(outcome, Answer):
                records += [Record(r.type, r.ttl, r.data, r.owner or name) for r in outcome.records]
        return tuple(dict.fromkeys(records))

    def _address(self, question: Question, text: str) -> Outcome:
        address = _from_hex(text)
        if address is None:
            return self._no_name() if len(text) // 2 in (4, 16) else self._no_data()
        if question.type not in (_type(address), ANY):
            return self._no_data(ALWAYS)
        return Answer((Record(_type(address), TTL, address),), (), ALWAYS)

    # -- the zone -------------------------------------------------------------------------

    def _name_servers(self) -> Outcome:
        home = self._catalog.at(self._catalog.home)
        endpoints = home.services.get("consul", ()) if home else ()
        nodes = [e.node for e in endpoints if e.served(only_passing=self.only_passing)][:SERVERS_MOST]
        if not nodes:
            return Fail("no server of Consul's is known")
        records = tuple(Record(NS, TTL, NameData(_node_name(n)), ZONE) for n in nodes)
        extra = tuple(
            Record(_type(address), TTL, address, _node_name(n)) for n in nodes if (address := _ip(n.address))
        )
        return Answer(records, extra, (service_key(self._catalog.home, "consul"),))

    def _soa(self) -> Record:
        serial = int(self._clock()) & 0xFFFFFFFF
        data = SoaData(f"ns.{ZONE}", f"hostmaster.{ZONE}", serial, 3600, 600, 86400, TTL)
        return Record(SOA, TTL, data, ZONE)

    def _no_name(self, depends: tuple[str, ...] = ()) -> NxDomain:
        return NxDomain(self._soa(), depends)

    def _no_data(self, depends: tuple[str, ...] = ()) -> NoData:
        return NoData(self._soa(), depends)


def _is_known(held: Datacenter, lookup: Lookup) -> bool:
    """Whether it was known when this was last in step; what was not may exist by now."""
    return lookup.name in (held.nodes if lookup.kind == "node" else held.services)


def parse(question: Question, home: str) -> Lookup | None:
    """Read a name below ``.consul``: the last label that says a kind counts. None where none does."""
    labels = question.name.removesuffix(ZONE).rstrip(".").split(".")
    for at in range(len(labels) - 1, -1, -1):
        label = labels[at]
        if label in KINDS:
            kind, parts, suffixes = label, labels[:at], labels[at + 1 :]
            break
        if question.type == SRV and label.startswith("_"):  # "service" may be left out
            kind, parts, suffixes = "service", labels[: at + 1], labels[at + 1 :]
            break
    else:
        return None
    if kind == "addr":  # what follows does not matter: the address is in the name
        return Lookup(kind, parts[0], home) if len(parts) == 1 else None
    if not parts or len(suffixes) > 1:
        return None
    datacenter = suffixes[0] if suffixes else home
    if kind in ("node", "query"):
        return Lookup(kind, ".".join(parts), datacenter)
    if kind == "service" and len(parts) == 2 and all(p.startswith("_") for p in parts):  # RFC 2782
        tag = parts[1][1:]
        return Lookup(kind, parts[0][1:], datacenter, "" if tag == "tcp" else tag)
    return Lookup(kind, parts[-1], datacenter, ".".join(parts[:-1]) if kind == "service" else "")


@dataclass(frozen=True, slots=True)
class Target:
    """Where an endpoint is: an address or another name, and whether it is its node's."""

    to: IPAddress | str
    of_node: bool


def target_of(endpoint: Endpoint, question: Question) -> Target | None:
    """Where an endpoint is for a question; None where it is nowhere in the question's family.

    As Consul has it, a tagged IPv6 address goes first where the question leaves the family open.
    """
    node = endpoint.node
    text, tagged = endpoint.address, dict(endpoint.tagged)
    itself = text.rstrip(".").lower() == question.name and _ip(node.address) is not None
    of_node = not text or itself
    if of_node:
        text, tagged = node.address, dict(node.tagged)
    families = {A: (4,), AAAA: (6,)}.get(question.type, (6, 4))
    for family in families:
        if chosen := _ip(tagged.get(f"lan_ipv{family}", "")):
            return Target(chosen, of_node)
    address = _ip(text)
    if address is None:
        return Target(text, of_node) if text else None
    return Target(address, of_node) if address.version in families else None


def _has_tag(endpoint: Endpoint, tag: str) -> bool:
    return not tag or any(t.lower() == tag for t in endpoint.tags)


def meta_texts(meta: Iterable[tuple[str, str]]) -> Iterable[TxtData]:
    """A node's metadata, a record for each pair: ``key=value`` (RFC 1464), or only the value where the
    key says that it is meant for RFC 1035.
    """
    for key, value in meta:
        text = value if key.lower().startswith("rfc1035-") else f"{key}={value.replace('`', '``')}"
        data = text.encode()
        strings = [data[at : at + MAX_STRING] for at in range(0, len(data), MAX_STRING)]
        yield TxtData(tuple(strings) or (b"",))


def _node_name(node: Node) -> str:
    return f"{node.name}.node.{node.datacenter}.{ZONE}".lower()


def _type(address: IPAddress) -> int:
    return A if address.version == 4 else AAAA


def _ip(text: str) -> IPAddress | None:
    try:
        address: IPAddress = ip_address(text)
    except ValueError:
        return None
    return address


def _from_hex(text: str) -> IPAddress | None:
    try:
        packed = bytes.fromhex(text) if text.isalnum() else b""
    except ValueError:
        return None
    if len(packed) == 4:
        return IPv4Address(packed)
    return IPv6Address(packed) if len(packed) == 16 else None
