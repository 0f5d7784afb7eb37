"""DNS-SD browsing of a domain (RFC 6763): service types, their instances, what each instance is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from discoverd.naming import Kind
from discoverd.nameindex import Found
from discoverd.resolver import services
from discoverd.resolver.iana import service_name
from discoverd.resolver.outcome import ANY, PTR, SRV, TXT, Answer, NameData, NoData, Outcome, Record, TxtData
from discoverd.resolver.records import text_strings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoverd.model import Instance, Port
    from discoverd.resolver.local import Asked, Local

#: RFC 6763 section 11: the domain itself is the one to browse, and the one browsed without asking.
BROWSE_DOMAINS = ("b._dns-sd._udp", "lb._dns-sd._udp", "db._dns-sd._udp")
#: RFC 6763 section 9.
ALL_TYPES = "_services._dns-sd._udp"
#: Answers about the whole domain change with any instance, so they are built anew each time.
UNKEPT: tuple[str, ...] = ()


def resolve(local: Local, asked: Asked) -> Outcome | None:
    """Browsing names of the domain; None where the name is none of them."""
    name, labels = asked.name, asked.name.split(".")
    if name in BROWSE_DOMAINS:
        return _pointers(local, asked, [asked.domain])
    if name == ALL_TYPES:
        types = sorted({f"{_type(p)}.{asked.domain}" for _, p in _advertised(local)})
        return _pointers(local, asked, types)
    if name in ("_dns-sd._udp", "_udp", "_tcp"):
        return local.unsure() if local.registry.syncing else local.no_data(asked, UNKEPT)
    if len(labels) == 2 and labels[1] in services.PROTOCOLS and labels[0].startswith("_"):
        return _instances_of_type(local, asked)
    if len(labels) == 3 and labels[2] in services.PROTOCOLS and labels[1].startswith("_"):
        return _instance(local, asked, labels)
    return None


def _type(port: Port) -> str:
    return f"_{service_name(port.port, port.name)}._{port.protocol}"


def _advertised(local: Local) -> Iterator[tuple[Instance, Port]]:
    for instance in local.registry.instances():
        if instance.in_service and instance.unique:
            for port in instance.ports:
                yield instance, port


def _pointers(local: Local, asked: Asked, targets: list[str]) -> Outcome:
    if not targets and local.registry.syncing:
        return local.unsure()
    if asked.question.type not in (PTR, ANY) or not targets:
        return local.no_data(asked, UNKEPT)
    ttl = local.settings.ttl
    return Answer(tuple(Record(PTR, ttl, NameData(t)) for t in targets), (), UNKEPT)


def _instances_of_type(local: Local, asked: Asked) -> Outcome:
    """Only what this asker would be given by a lookup of the service is listed."""
    wanted = asked.name
    targets: list[str] = []
    offered = False
    for service in sorted({i.service for i, p in _advertised(local) if _type(p) == wanted}):
        offered = True
        found = local.registry.names.find(service)
        for choice in local.select(asked, found).chosen:
            if choice.instance.in_service and any(_type(p) == wanted for p in choice.instance.ports):
                targets.append(f"{choice.instance.unique}.{wanted}.{asked.domain}")
    if not offered:
        return local.unsure() if local.registry.syncing else local.no_name(asked)
    return _pointers(local, asked, list(dict.fromkeys(targets)))


def _instance(local: Local, asked: Asked, labels: list[str]) -> Outcome | None:
    unique, wanted = labels[0], f"{labels[1]}.{labels[2]}"
    held = tuple(b for b in local.registry.names.at(unique) if b.kind is Kind.ID)
    ports = [p for b in held for p in b.instance.ports if _type(p) == wanted]
    if not ports:
        return None
    found = Found(held, exists=True, depends=(asked.name, unique))
    selection = local.select(asked, found)
    if not selection.chosen:
        return local.no_data(asked, found.depends, 1)
    if asked.question.type == SRV:
        return services.srv(local, asked, found, selection, lambda p: _type(p) == wanted)
    if asked.question.type == TXT:
        # RFC 6763 section 6.1: never without a TXT record, one empty string where there is nothing to say
        strings = text_strings(selection.chosen[0].instance) or (b"",)
        return Answer((Record(TXT, local.ttl(selection), TxtData(strings)),), (), found.depends)
    if asked.question.type == ANY:
        return local.answer(asked, found)
    return NoData(local.soa(asked.domain), found.depends)
