"""A domain as a zone: every name below it that has records, for transfers.

Each record is what a query for it would be answered with, because it is found by asking just
that. Names that exist without records (a service that nobody may be served of, a name that has
gone a moment ago) are no part of a zone.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from discoverd.naming import Kind
from discoverd.registry import Registry
from discoverd.resolver.browse import ALL_TYPES, BROWSE_DOMAINS
from discoverd.resolver.iana import PORTS
from discoverd.resolver.local import Local
from discoverd.resolver.outcome import AAAA, NS, PTR, SRV, TXT, A, Answer, NameData, Question, Record

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from discoverd.model import Instance, IPAddress
    from discoverd.naming import Binding
    from discoverd.views import View

#: Instances that are indexed between two turns of other work; some milliseconds.
AT_ONCE = 50
PLAIN_TYPES = (A, AAAA, SRV, TXT)
IANA_NAMES: dict[int, list[str]] = {}
for _name, _ports in PORTS.items():
    for _port in _ports:
        IANA_NAMES.setdefault(_port, []).append(_name)


def records(local: Local, domain: str, view: View, own: IPAddress | None) -> Iterator[Record | None]:
    """All records of a configured domain as one view has them, but for SOA; None now and then.

    They are the state of this moment, whatever changes until they are taken. The owner of each is
    set. At each None other work should get its turn. ``own`` is as for Local.resolve.
    """
    registry = local.registry
    instances = tuple(registry.instances())
    frozen = Local(Registry(), local.settings)
    frozen.hosts = local.hosts
    frozen.registry.set_networks("", registry.networks())
    for status in registry.statuses():
        frozen.registry.writer(status.name, status.kind)
        frozen.registry.set_status(status)
    return chain(_index(frozen.registry, instances), _Zone(frozen, domain, view, own).records())


def _index(registry: Registry, instances: tuple[Instance, ...]) -> Iterator[None]:
    known = {status.name for status in registry.statuses()}
    for first in range(0, len(instances), AT_ONCE):
        by_source: dict[str, dict[str, list[Instance]]] = {}
        for instance in instances[first : first + AT_ONCE]:
            by_source.setdefault(instance.source, {})[instance.id] = [instance]
        for source, objects in by_source.items():
            if source not in known:
                known.add(source)
                registry.writer(source, source)
            registry.write(source, objects, full=False)
        yield None


class _Zone:
    """One domain, asked name by name."""

    def __init__(self, local: Local, domain: str, view: View, own: IPAddress | None) -> None:
        self._local, self._domain, self._view, self._own = local, domain, view, own

    def records(self) -> Iterator[Record | None]:
        yield from self._ask("", (NS,))
        names = self._local.registry.names
        for name, held in self._names():
            yield from self._ask(name, PLAIN_TYPES)
            if not name.startswith("*"):  # a wildcard stands for whole names only
                for label in _port_labels(binding.instance for binding in held):
                    yield from self._ask(f"{label}.{name}", (SRV,))
            yield None
        if not names.at("ns"):
            yield from self._ask("ns", (A, AAAA))
        yield from self._browsing()

    def _names(self) -> Iterator[tuple[str, tuple[Binding, ...]]]:
        names = self._local.registry.names
        for name in names.bound():
            held = names.at(name)
            yield name, held
            if f"all.{name}" not in names and any(b.kind in (Kind.SERVICE, Kind.SCOPED) for b in held):
                yield f"all.{name}", held
        for link in self._view.links:
            if link.alias not in names:
                yield link.alias, names.at(link.target)

    def _browsing(self) -> Iterator[Record | None]:
        """DNS-SD: what each name lists is asked in turn (RFC 6763)."""
        for name in BROWSE_DOMAINS:
            yield from self._ask(name, (PTR,))
        for kind in (yield from self._pointers(ALL_TYPES)):
            for instance in (yield from self._pointers(kind)):
                yield from self._ask(instance, (SRV, TXT))
                yield None

    def _pointers(self, name: str) -> Generator[Record, None, list[str]]:
        targets: list[str] = []
        for record in self._ask(name, (PTR,)):
            assert isinstance(record.data, NameData)
            targets.append(record.data.name.removesuffix(f".{self._domain}"))
            yield record
        return targets

    def _ask(self, name: str, types: Iterable[int]) -> Iterator[Record]:
        owner = f"{name}.{self._domain}" if name else self._domain
        for wanted in types:
            question = Question(owner, wanted)
            if self._local.split(question, self._view).domain != self._domain:
                return  # it is below another domain of ours, which is a zone of its own
            outcome = self._local.resolve(question, self._view, self._own)
            if isinstance(outcome, Answer):
                for record in outcome.records:
                    yield Record(record.type, record.ttl, record.data, owner)


def _port_labels(instances: Iterable[Instance]) -> list[str]:
    """Every ``_<port>._<protocol>`` that may lead to a port of these instances (by number, by the name
    it was given, by IANA name).
    """
    labels: dict[str, None] = {}
    for instance in instances:
        for port in instance.ports:
            numbers = (port.port, port.published)
            by_name = (port.name, *IANA_NAMES.get(port.port, ()))
            for wanted in (*(str(n) for n in numbers if n is not None), *by_name):
                if wanted:
                    labels.setdefault(f"_{wanted}._{port.protocol}")
    return list(labels)
