"""DNS-SD browsing of a domain (RFC 6763): service types, their instances, what each instance is."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from discoverd.nameindex import Found
from discoverd.naming import Kind
from discoverd.resolver import services
from discoverd.resolver.iana import service_names
from discoverd.resolver.outcome import ANY, PTR, TXT, Answer, NameData, Outcome, Record, TxtData
from discoverd.resolver.records import text_strings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from discoverd.model import Instance, Port
    from discoverd.registry import Change, Registry
    from discoverd.resolver.local import Asked, Local

#: RFC 6763 section 11: the domain itself is the one to browse, and the one browsed without asking.
BROWSE_DOMAINS = ("b._dns-sd._udp", "lb._dns-sd._udp", "db._dns-sd._udp")
#: RFC 6763 section 9.
ALL_TYPES = "_services._dns-sd._udp"
#: Names that are only there for what is below them.
BETWEEN = ("_dns-sd._udp", "_udp", "_tcp")
#: Pointers in one answer; a message of 64 KiB holds some 1,500.
POINTERS_MOST = 2000
#: Types that are remembered, those that nobody offers any more among them.
TYPES_MOST = 1000


class Offers:
    """Which service types are offered by which services: kept up to date, so that no question about
    the whole domain looks at every instance.
    """

    def __init__(self, registry: Registry) -> None:
        self._services: dict[str, Counter[str]] = {}
        for instance in registry.instances():
            self._count(instance, 1)
        registry.subscribe(self._changed)

    def types(self) -> list[str]:
        return sorted(kind for kind, services in self._services.items() if services)

    def of(self, kind: str) -> Iterable[str] | None:
        """The services that offer a type; None for a type that nobody has offered."""
        return self._services.get(kind)

    def _changed(self, change: Change) -> None:
        differing = [(was, new) for was, new in change.updated if _offered(was) != _offered(new)]
        for instance in (*change.removed, *(was for was, _ in differing)):
            self._count(instance, -1)
        for instance in (*change.added, *(new for _, new in differing)):
            self._count(instance, 1)
        if len(self._services) > TYPES_MOST:
            self._services = {kind: services for kind, services in self._services.items() if services}

    def _count(self, instance: Instance, step: int) -> None:
        if not instance.in_service or not instance.unique:
            return
        for kind in {kind for port in instance.ports for kind in _types(port)}:
            held = self._services.setdefault(kind, Counter())
            held[instance.service] += step
            if not held[instance.service]:
                del held[instance.service]


def resolve(local: Local, asked: Asked) -> Outcome | None:
    """Browsing names of the domain; None where the name is none of them."""
    name, labels = asked.name, asked.name.split(".")
    if name in BROWSE_DOMAINS:
        return _pointers(local, asked, [asked.domain])
    if name == ALL_TYPES:
        return _pointers(local, asked, [f"{kind}.{asked.domain}" for kind in local.offers.types()])
    if name in BETWEEN:
        return local.unsure() if local.registry.syncing else local.no_data(asked)
    if len(labels) == 2 and labels[1] in services.PROTOCOLS and labels[0].startswith("_"):
        return _instances_of_type(local, asked)
    if len(labels) == 3 and labels[2] in services.PROTOCOLS and labels[1].startswith("_"):
        return _instance(local, asked, labels[0], f"{labels[1]}.{labels[2]}")
    return None


def _offered(instance: Instance) -> tuple[object, ...]:
    """What its types are made from."""
    return instance.service, instance.ports, instance.in_service, instance.unique


def _types(port: Port) -> tuple[str, ...]:
    protocol = f"_{port.protocol}"
    names = service_names(port.port, port.name) if protocol in services.PROTOCOLS else ()
    return tuple(f"_{name}.{protocol}" for name in names)


def _pointers(local: Local, asked: Asked, targets: list[str]) -> Outcome:
    """Answers about the whole domain change with any instance: they rest on too much to be kept."""
    if not targets and local.registry.syncing:
        return local.unsure()
    if asked.question.type not in (PTR, ANY) or not targets:
        return local.no_data(asked)
    ttl = local.ttl_of(())
    return Answer(tuple(Record(PTR, ttl, NameData(target)) for target in targets[:POINTERS_MOST]))


def _instances_of_type(local: Local, asked: Asked) -> Outcome:
    """Only what this asker would be given by a lookup of the service is listed."""
    offered = local.offers.of(asked.name)
    if offered is None:
        return local.unsure() if local.registry.syncing else local.no_name(asked)
    targets: dict[str, None] = {}
    for service in offered:
        for choice in local.select(asked, local.registry.names.find(service)).chosen:
            instance = choice.instance
            if instance.in_service and any(asked.name in _types(port) for port in instance.ports):
                targets[f"{instance.unique}.{asked.name}.{asked.domain}"] = None
        if len(targets) >= POINTERS_MOST:
            break
    return _pointers(local, asked, list(targets))


def _instance(local: Local, asked: Asked, unique: str, kind: str) -> Outcome | None:
    names = local.registry.names
    held = tuple(b for b in names.at(unique) if b.kind is Kind.ID and b.instance.in_service)
    gone = tuple(g for g in names.gone(unique) if g.kind is Kind.ID)
    found = Found(held, exists=True, depends=(asked.name, unique), gone=gone)
    if local.is_unsure(found):
        return local.unsure()

    def pick(instance: Instance) -> tuple[Port, ...]:
        return tuple(port for port in instance.ports if kind in _types(port))

    if not found.gone and not any(pick(b.instance) for b in held):
        return local.no_name(asked, found.depends)
    if asked.question.type == TXT:
        return _text(local, asked, found)
    return local.answer(asked, found, pick)


def _text(local: Local, asked: Asked, found: Found) -> Outcome:
    """Never without a TXT record: one empty string where there is nothing to say (RFC 6763 section 6.1)."""
    selection = local.select(asked, found)
    if not selection.chosen:
        return local.nobody(asked, found)
    strings = text_strings(selection.chosen[0].instance) or (b"",)
    return Answer((Record(TXT, local.ttl(selection), TxtData(strings)),), (), found.depends)
