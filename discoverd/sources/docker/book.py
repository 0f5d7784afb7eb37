"""All that is known of one engine's containers, and what each new piece of knowledge changes. No I/O.

Every answer of the engine carries the number of the question (``asked``): an answer to an older
question never replaces that to a newer one, in whatever order they arrive.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from discoverd.sources.docker.drain import Drain, begins, draining
from discoverd.sources.docker.networks import NetworkMap
from discoverd.sources.docker.parse import Container, container_id, joined, parse_container, stopped
from discoverd.sources.docker.services import as_task, dressed, service_id
from discoverd.sources.docker.swarm import Swarm

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from discoverd.model import Instance, IPAddress
    from discoverd.sources.docker.settings import DockerSettings
    from discoverd.sources.docker.shape import Json
    from discoverd.sources.docker.swarm import Report

Objects = dict[str, "tuple[Instance, ...]"]


@dataclass(slots=True)
class Entry:
    container: Container
    asked: int
    drain: Drain | None = None
    published: tuple[Instance, ...] = ()


@dataclass(frozen=True, slots=True)
class Update:
    """What follows from one piece of knowledge."""

    #: To be published, by container id; nothing means gone.
    objects: Mapping[str, tuple[Instance, ...]] = field(default_factory=dict)
    #: Containers to be inspected (again): they depend on what changed.
    look: tuple[str, ...] = ()
    #: The same in so many seconds: their drains are over then.
    again: Mapping[str, float] = field(default_factory=dict)
    #: True where the engine's networks are to be read again: a container is on one that is not known.
    networks: bool = False
    #: Remarks for the log, not made before.
    notes: tuple[str, ...] = ()


class Book:
    """What the engine last said of each container."""

    def __init__(self, settings: DockerSettings) -> None:
        self._settings = settings
        self._entries: dict[str, Entry] = {}
        self._gone: dict[str, int] = {}
        #: Containers that use another's network stack.
        self._joining: set[str] = set()
        self._networks = NetworkMap()
        self._networks_asked = 0
        self._swarm = Swarm(settings)
        #: Where containers ask from that are on a swarm's networks, by container.
        self._gateways: Mapping[str, tuple[IPAddress, ...]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, container: str) -> bool:
        return container in self._entries

    def ids(self) -> frozenset[str]:
        return frozenset(self._entries)

    def objects(self) -> Objects:
        """Everything, for a full replacement."""
        own = {key: entry.published for key, entry in self._entries.items() if entry.published}
        return own | self._swarm.objects()

    def heard(self, doc: Json, asked: int, now: float) -> Update:
        """One inspect. Raises ValueError for what is none; then nothing has changed."""
        key = container_id(doc)
        old = self._entries.get(key)
        if asked < max(old.asked if old else 0, self._gone.get(key, 0)):
            return Update()
        self._gone.pop(key, None)
        name = joined(doc)
        host = self._find(name) if name else None
        container = self._read(doc, host)
        drain = old.drain if old and old.drain and old.drain.holds(container, now) else None
        if name and not (container.ground.addresses or container.ground.on_host):
            drain = None  # what it waited for has happened: the other one has ended
        published = draining(container.instances) if drain else container.instances
        self._entries[key] = Entry(container, asked, drain, published)
        (self._joining.add if name else self._joining.discard)(key)
        look = [name] if name and host is None else []
        if old is None or _footing(old.container) != _footing(container):
            look += self._followers(container)
        told = old.container.notes if old else ()
        objects: Objects = {} if old and old.published == published else {key: published}
        if container.service and self._swarm.lost:  # it may be known as another node's task as well
            objects |= self._swarm.heard(self._swarm.report, self._networks, self._entries).objects
        return Update(
            objects=objects,
            look=tuple(look),
            again={key: drain.until - now} if drain else {},
            networks=container.unresolved and not (old and old.container.unresolved),
            notes=tuple(
                f"container {container.name}: {note}" for note in container.notes if note not in told
            ),
        )

    def gone(self, key: str, asked: int) -> Update:
        """The engine knows no such container."""
        old = self._entries.get(key)
        if old is None or asked < old.asked:
            return Update()
        del self._entries[key]
        self._joining.discard(key)
        self._gone[key] = asked
        return Update(objects={key: ()} if old.published else {}, look=self._followers(old.container))

    def killed(self, key: str, sent: str, now: float) -> Update:
        """A signal was sent to a container: what was last known of it is on its way out, without asking."""
        entry = self._entries.get(key)
        drain = begins(entry.container, sent, now) if entry else None
        if entry is None or drain is None:
            return Update()
        objects: Objects = {}
        again: dict[str, float] = {}
        for one in (key, *self._followers(entry.container)):
            other = self._entries[one]
            if not other.container.running:
                continue
            again[one] = drain.until - now
            other.drain = Drain(other.container.started_at, drain.until)
            leaving = draining(other.container.instances)
            if leaving != other.published:
                other.published = objects[one] = leaving
        return Update(objects=objects, again=again)

    def died(self, key: str, asked: int) -> Update:
        """A container's main process ended; ``asked`` makes answers to earlier questions too old to count."""
        entry = self._entries.get(key)
        if entry is None or not entry.container.running:
            return Update()
        entry.container = stopped(entry.container)
        entry.published = entry.container.instances
        entry.asked, entry.drain = asked, None
        return Update(objects={key: entry.published}, look=self._followers(entry.container))

    @property
    def networks(self) -> NetworkMap:
        return self._networks

    def set_networks(self, networks: NetworkMap, asked: int) -> Update:
        """The engine's networks; containers that named an unknown one want another look."""
        if asked < self._networks_asked or networks == self._networks:
            return Update()
        self._networks, self._networks_asked = networks, asked
        news = self._swarm.heard(self._swarm.report, networks, self._entries)
        look = tuple(key for key, entry in self._entries.items() if entry.container.unresolved)
        return Update(objects=news.objects, look=look)

    def set_swarm(self, report: Report, gateways: Mapping[str, tuple[IPAddress, ...]]) -> Update:
        """What the manager of a swarm says, and where containers on its networks ask from."""
        news = self._swarm.heard(report, self._networks, self._entries)
        objects: Objects = dict(news.objects)
        old, self._gateways = self._gateways, gateways
        for key in old.keys() | gateways.keys():
            if old.get(key) == gateways.get(key) or (entry := self._entries.get(key)) is None:
                continue
            entry.container = self._placed(entry.container)
            entry.published = tuple(replace(i, asks_from=gateways.get(key, ())) for i in entry.published)
            objects[key] = entry.published
        differ = news.services
        look = tuple(key for key, entry in self._entries.items() if entry.container.service in differ)
        return Update(objects=objects, look=look if differ else (), notes=news.notes)

    def _read(self, doc: Json, host: Container | None) -> Container:
        """A container; where it is a Swarm task, with what is known of its service."""
        if not (of := service_id(doc)):
            return self._placed(parse_container(doc, self._settings, self._networks, host))
        service = self._swarm.service(of)
        worn = dressed(doc, service) if service else doc
        container = parse_container(worn, self._settings, self._networks, host)
        return self._placed(replace(as_task(container, service), service=of))

    def _placed(self, container: Container) -> Container:
        gateways = self._gateways.get(container.id, ()) if container.running else ()
        if all(i.asks_from == gateways for i in container.instances):
            return container
        return replace(
            container, instances=tuple(replace(i, asks_from=gateways) for i in container.instances)
        )

    def settle(self, asked: int) -> None:
        """No answer to a question before ``asked`` is due any more: forget who was gone by then."""
        self._gone = {key: when for key, when in self._gone.items() if when >= asked}

    def _find(self, name: str) -> Container | None:
        if entry := self._entries.get(name):
            return entry.container
        return next((e.container for e in self._entries.values() if e.container.name == name), None)

    def _followers(self, container: Container) -> tuple[str, ...]:
        """Containers that use this one's network stack."""
        called: Iterable[str] = {container.id, container.name}
        return tuple(key for key in self._joining if self._entries[key].container.joins in called)


def _footing(container: Container) -> tuple[object, ...]:
    """What containers that join it depend on."""
    return container.running, container.started_at, container.ground
