"""What a container is called: its service, scope, number and names. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from discoverd.naming import to_label, to_name
from discoverd.sources.docker.labels import read
from discoverd.sources.docker.networks import is_temporary
from discoverd.sources.docker.shape import part, text, text_map, texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from discoverd.sources.docker.notes import Notes
    from discoverd.sources.docker.settings import DockerSettings
    from discoverd.sources.docker.shape import Json

_COMPOSE = "com.docker.compose."
_SWARM = "com.docker.swarm."
_STACK = "com.docker.stack.namespace"


class Identity:
    """The answers to "who is this?", each worked out once from labels, environment and name.

    What its owner asked for goes first, then Compose's labels, then Swarm's, then the name.
    """

    def __init__(self, doc: Json, key: str, notes: Notes) -> None:
        config = part(doc, "Config")
        self.notes = notes
        self.id, self.short = key, key[:12]
        self.labels = text_map(part(config, "Labels"))
        self.wishes = read(self.labels, texts(config, "Env"), notes)
        self.name = text(doc, "Name").rpartition("/")[2]
        self._compose = self.labels.get(_COMPOSE + "service", "")
        self._swarm = self.labels.get(_SWARM + "service.name", "")
        self._stack = self.labels.get(_STACK, "")
        self.project = self.labels.get(_COMPOSE + "project", "") or self._stack
        #: Made by ``compose run``: it has its service's labels, but is none of its replicas.
        self.one_off = self.labels.get(_COMPOSE + "oneoff", "").lower() == "true"
        self.replica = self._replica()
        self.service = self._service()
        self.scope = self._scope()
        self.own_names = tuple(dict.fromkeys(self._own_names()))
        self.hostname = self._hostname(doc)
        #: Names that the engine lists as aliases though they are none, in lower case.
        self.plain = frozenset(
            n.lower()
            for n in (self.name, self.short, text(config, "Hostname"), self.service, *self._spellings())
        ) | {*self.own_names, self.hostname}

    def _service(self) -> str:
        if self.wishes.service:
            return self.wishes.service
        if self._compose:
            return self.notes.label("service", self._compose)
        if self._swarm:
            return self.notes.label("service", self._swarm.removeprefix(f"{self._stack}_"))
        return self.wishes.registered or to_label(self.name) or self.short

    def _scope(self) -> str:
        if self.wishes.scope is not None:
            return self.wishes.scope
        return self.notes.label("project", self.project) if self.project else ""

    def _replica(self) -> int | None:
        number = self.labels.get(_COMPOSE + "container-number", "")
        if not number:  # a Swarm task is called service.slot.id, or service.node.id where it has no slot
            number = self.labels.get(_SWARM + "task.name", "").rpartition(".")[0].rpartition(".")[2]
        good = number.isascii() and number.isdigit() and len(number) < 10
        return int(number) if good and not self.one_off else None

    def _spellings(self) -> tuple[str, ...]:
        """How Compose spells this container's name: version 2, and version 1."""
        if not self._compose or self.replica is None:
            return ()
        parts = self.project.lower(), self._compose.lower(), str(self.replica)
        return "-".join(parts), "_".join(parts)

    def _own_names(self) -> Iterator[str]:
        if is_temporary(self.name):
            return
        if name := self.notes.name("container name", self.name):
            yield name
        spellings = self._spellings()
        if self.name.lower() in spellings:
            yield from (made for spelling in spellings if (made := to_name(spelling)))

    def _hostname(self, doc: Json) -> str:
        """A hostname that somebody chose: not made of the id, nor that of a shared network stack."""
        given = text(part(doc, "Config"), "Hostname")
        mode = text(part(doc, "HostConfig"), "NetworkMode")
        if not given or given == self.short or mode == "host" or mode.startswith("container:"):
            return ""
        return self.notes.name("hostname", given)

    def extra_names(self, settings: DockerSettings) -> tuple[str, ...]:
        """Names by label and by the configured templates; none for one-off containers."""
        return () if self.one_off else tuple(dict.fromkeys(self._extra_names(settings)))

    def _extra_names(self, settings: DockerSettings) -> Iterator[str]:
        yield from self.wishes.names
        if self._swarm and self._stack and (full := to_label(self._swarm)):
            yield full  # shop_api beside api.shop
        values: Mapping[str, str] = {
            "service": self.service,
            "project": self.project,
            "scope": self.scope,
            "name": self.own_names[0] if self.own_names else "",
            "replica": "" if self.replica is None else str(self.replica),
            "hostname": self.hostname,
            "id": self.short,
            "engine": settings.name,
        }
        for template in settings.templates:
            filled = template.fill(values, self.labels)
            if filled and (
                name := self.notes.name(f'name by template "{template.text}"', filled, wildcard=True)
            ):
                yield name

    def further_services(self) -> Mapping[str, frozenset[int]]:
        """Registrator's services beside the container's own, with their ports; none means all of them.

        They are added rather than put in its place: the container's service stays what Compose calls it.
        """
        if self.one_off:
            return {}
        ports: dict[str, frozenset[int]] = {}
        for port, service in self.wishes.by_port:
            ports[service] = ports.get(service, frozenset()) | {port}
        if self.wishes.registered:
            ports[self.wishes.registered] = frozenset()
        ports.pop(self.service, None)
        return ports
