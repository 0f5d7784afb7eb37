"""One Docker Engine to watch, and the names made for its containers beyond the usual ones."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from discoverd.naming import to_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from discoverd.model import IPAddress

#: What a name template may hold, beside ``{label:KEY}``.
FIELDS = frozenset({"service", "project", "scope", "name", "replica", "hostname", "id", "engine"})

_FIELD = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerSettings:
    """How to reach one engine, and what of it is served. Raises ValueError for a value that cannot work.

    TLS is spoken when ``url`` begins with ``https://`` or any of ``tls_ca``, ``tls_cert`` and
    ``tls_key`` (paths of PEM files) is given. ``names`` are templates such as
    ``{service}.{project}`` or ``{label:app}``; a container that lacks one of a template's
    fields gets no name by it.
    """

    url: str
    #: Empty: see :func:`default_name`. It is part of network ids, so no two engines may share one.
    name: str = ""
    host_address: IPAddress | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_verify: bool = True
    #: Serve only containers with the label ``discoverd.enable=true``.
    only_enabled: bool = False
    names: tuple[str, ...] = ()
    #: The safety net for changes that have no event.
    resync_seconds: float = 45.0
    templates: tuple[Template, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        if not self.url.startswith(("unix:///", "tcp://", "http://", "https://", "ssh://")):
            raise ValueError(f"{self.url}: expected unix:///path, tcp://host:port or ssh://user@host")
        if self.url.startswith("ssh://") and (self.tls_ca or self.tls_cert):
            raise ValueError(f"{self.url}: tls_ca, tls_cert and tls_key mean nothing where ssh is the way")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError(f"{self.url}: tls_cert and tls_key are needed together")
        if not self.name:
            object.__setattr__(self, "name", default_name(self.url))
        object.__setattr__(self, "templates", tuple(Template(text) for text in self.names))

    @property
    def reached_at(self) -> str:
        """The host that a network leads to the engine by; empty for a socket."""
        return "" if self.url.startswith("unix:") else urlsplit(self.url).hostname or ""

    @property
    def tls(self) -> bool:
        return self.url.startswith("https://") or bool(self.tls_ca or self.tls_cert)


def default_name(url: str) -> str:
    """What an engine without a name is called: ``local`` for a socket, else its host as a DNS label."""
    host = "" if url.startswith("unix:") else urlsplit(url).hostname or ""
    return to_label(host) or "local"


def distinct(engines: Iterable[DockerSettings]) -> tuple[DockerSettings, ...]:
    """The same engines with distinct names (``local``, ``local-2``): these are parts of network ids."""
    taken: dict[str, DockerSettings] = {}
    for engine in engines:
        name, number = engine.name, 1
        while name in taken:
            number += 1
            name = f"{engine.name}-{number}"
        taken[name] = engine if name == engine.name else replace(engine, name=name)
    return tuple(taken.values())


@dataclass(frozen=True, slots=True)
class Template:
    """A name pattern. Raises ValueError for one that has no field, or a field that nobody fills."""

    text: str

    def __post_init__(self) -> None:
        fields = [(m[1], m[2]) for m in _FIELD.finditer(self.text)]
        wrong = [
            name for name, key in fields if not (key if name == "label" else name in FIELDS and key is None)
        ]
        if wrong or not fields or set(_FIELD.sub("", self.text)) & set("{}"):
            known = ", ".join(f"{{{name}}}" for name in sorted(FIELDS))
            raise ValueError(f'name template "{self.text}": expected fields of {known} and {{label:KEY}}')

    def fill(self, values: Mapping[str, str], labels: Mapping[str, str]) -> str:
        """The name of one container, or "" where it lacks a field."""
        given = [
            labels.get(m[2], "") if m[1] == "label" else values.get(m[1], "")
            for m in _FIELD.finditer(self.text)
        ]
        if not all(given):
            return ""
        parts = iter(given)
        return _FIELD.sub(lambda _: next(parts), self.text)
