"""A container's labels and environment -> what its owner wants: ``discoverd.*`` and Registrator's words.

Labels go before environment variables, and ``discoverd.*`` before Registrator's ``SERVICE_*``
(https://gliderlabs.github.io/registrator/latest/user/services/).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from discoverd.model import Check, CheckKind, Port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from discoverd.sources.docker.notes import Notes

PREFIX = "discoverd."
META = PREFIX + "meta."
MAX_TTL = 604_800  # seconds; a week, what resolvers cap at anyway (RFC 8767 section 4)
MAX_WEIGHT = 65_535  # RFC 2782
MAX_PATH = 253  # characters, what a DNS name may have; longer paths are no health checks

_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})
_PORT = re.compile(
    r"(?:(?P<name>[^=]*)=)?\s*(?P<port>[0-9]{1,5})\s*(?:/(?P<protocol>tcp|udp|sctp))?", re.IGNORECASE
)
_PORT_SERVICE = re.compile(r"SERVICE_([0-9]{1,5})_NAME")
#: RFC 6763 section 6.4: printable ASCII without "=".
_META_KEY = re.compile(r"[\x20-\x3c\x3e-\x7e]{1,63}")
#: The path is what a request line may hold.
_CHECK = re.compile(r"(?P<kind>tcp|http|dns):(?P<port>[0-9]{1,5})(?P<path>/[\x21-\x7e]*)?", re.IGNORECASE)
_DNS_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}", re.IGNORECASE)

#: Every word after ``discoverd.``: what it takes, what it means, and an example that a test reads.
WORDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "enable": (
        "true or false (also 1, yes, on; 0, no, off)",
        "whether the container is served. Without it: yes, or no where the engine is only_enabled",
        "false",
    ),
    "name": (
        "names relative to the domain, with commas between",
        "further names; one that begins with *. is a wildcard",
        "portal,a.b,*.pages",
    ),
    "service": (
        "one DNS label",
        "the service, in the place of what Compose or Swarm calls it, or of the container's name",
        "web",
    ),
    "scope": (
        "one DNS label, or nothing",
        "what the service's name is unique in, in the place of project or stack; empty: nothing",
        "shop",
    ),
    "port": ("as ports", "the same as ports; both may be given", "8080"),
    "ports": (
        "PORT, PORT/udp or NAME=PORT/tcp, with commas between",
        "ports for SRV, and names for them; those that are exposed or published are there without it",
        "http=8080/tcp,9090",
    ),
    "tags": (
        "DNS labels, with commas between",
        "names in front of the service's: v1.web.docker",
        "v1,canary",
    ),
    "meta.KEY": ("any text", "metadata, served as TXT; up to 63 printable ASCII characters without =", "1.4"),
    "ttl": (
        f"whole seconds from 0 to {MAX_TTL}",
        "how long answers may be cached; the least of a service's instances counts",
        "0",
    ),
    "weight": (
        f"a whole number from 0 to {MAX_WEIGHT}",
        "share of the load, in SRV records; 1 without it",
        "3",
    ),
    "network": ("the name of a network", "the one whose address askers get that share none with it", "edge"),
    "check": (
        "tcp:PORT, http:PORT/PATH or dns:PORT/NAME",
        "a check that discoverd makes itself, for containers without a HEALTHCHECK",
        "http:8080/ready",
    ),
}
#: The same of Registrator's words, read from labels and from the container's environment.
REGISTRATOR: Final[Mapping[str, tuple[str, str, str]]] = {
    "SERVICE_NAME": (
        "one DNS label",
        "a further service; the only one where nothing else says its service",
        "web",
    ),
    "SERVICE_<port>_NAME": ("one DNS label", "a further service, with this port only", "admin"),
    "SERVICE_TAGS": ("DNS labels, with commas between", "as discoverd.tags", "v1,canary"),
    "SERVICE_IGNORE": ("anything but false, no, off, 0", "as discoverd.enable=false", "true"),
}
_WORDS = frozenset(WORDS) - {"meta.KEY"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a container's owner asked for; empty values leave the choice to discoverd."""

    #: None where nothing was said.
    enabled: bool | None = None
    service: str = ""
    #: None where nothing was said; "" takes the container out of its scope.
    scope: str | None = None
    names: tuple[str, ...] = ()
    network: str = ""
    ports: tuple[Port, ...] = ()
    tags: tuple[str, ...] = ()
    meta: tuple[tuple[str, str], ...] = ()
    ttl: int | None = None
    weight: int = 1
    check: Check | None = None
    #: Registrator's SERVICE_NAME.
    registered: str = ""
    #: Registrator's SERVICE_<port>_NAME: further services, each with some of the ports.
    by_port: tuple[tuple[int, str], ...] = ()


def read(labels: Mapping[str, str], env: Iterable[str], notes: Notes) -> Wishes:
    """Read labels and environment (``KEY=value`` lines); what is wrong is noted and left out."""
    ours = {
        key.removeprefix(PREFIX): value.strip() for key, value in labels.items() if key.startswith(PREFIX)
    }
    for key in sorted(ours.keys() - _WORDS):
        if not key.startswith("meta.") and (near := get_close_matches(key, sorted(_WORDS), n=1)):
            notes.add(f"label {PREFIX}{key} means nothing: {PREFIX}{near[0]} would")
    theirs = _registrator(labels, env)
    enabled = _flag(ours.get("enable"), notes)
    if enabled is None and theirs.get("SERVICE_IGNORE", "").lower() not in _NO | {""}:
        enabled = False
    tags = ours.get("tags") if "tags" in ours else theirs.get("SERVICE_TAGS", "")
    scope = ours.get("scope")
    return Wishes(
        enabled=enabled,
        service=_label("service", ours, notes),
        scope=None if scope is None else _label("scope", ours, notes),
        names=tuple(_names(ours.get("name", ""), notes)),
        network=ours.get("network", ""),
        ports=tuple(_ports(ours, notes)),
        tags=tuple(dict.fromkeys(_listed(tags or ""))),
        meta=tuple(sorted(_meta(labels, notes))),
        ttl=_number("ttl", ours, MAX_TTL, notes),
        weight=1 if (weight := _number("weight", ours, MAX_WEIGHT, notes)) is None else weight,
        check=_check(ours.get("check"), notes),
        registered=_made("SERVICE_NAME", theirs.get("SERVICE_NAME", ""), notes),
        by_port=tuple(sorted(_by_port(theirs, notes))),
    )


def _listed(text: str) -> Iterator[str]:
    return (item for item in (part.strip() for part in text.split(",")) if item)


def _registrator(labels: Mapping[str, str], env: Iterable[str]) -> dict[str, str]:
    split = (line.partition("=") for line in env if line.startswith("SERVICE_"))
    words = {key: value.strip() for key, _, value in split}
    return words | {key: value.strip() for key, value in labels.items() if key.startswith("SERVICE_")}


def _made(what: str, text: str, notes: Notes) -> str:
    return notes.label(what, text) if text else ""


def _label(word: str, ours: Mapping[str, str], notes: Notes) -> str:
    return _made(f"label {PREFIX}{word}", ours.get(word, ""), notes)


def _flag(text: str | None, notes: Notes) -> bool | None:
    if text is None or text.lower() in _YES | _NO:
        return None if text is None else text.lower() in _YES
    notes.add(f"label {PREFIX}enable is {text!r}: expected true or false; ignored")
    return None


def _number(word: str, ours: Mapping[str, str], most: int, notes: Notes) -> int | None:
    text = ours.get(word)
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most:
        return int(text)
    notes.add(f"label {PREFIX}{word} is {text!r}: expected a whole number from 0 to {most}; ignored")
    return None


def _check(text: str | None, notes: Notes) -> Check | None:
    if text is None:
        return None
    if match := _CHECK.fullmatch(text):
        kind, port, path = CheckKind(match["kind"].lower()), int(match["port"]), match["path"] or ""
        fits = {CheckKind.TCP: not path, CheckKind.HTTP: True, CheckKind.DNS: _DNS_NAME.fullmatch(path[1:])}
        if fits[kind] and 0 < port < 65536 and len(path) <= MAX_PATH:
            return Check(kind, port, path[1:] if kind is CheckKind.DNS else path)
    notes.add(f"label {PREFIX}check is {text!r}: expected tcp:PORT, http:PORT/PATH or dns:PORT/NAME; ignored")
    return None


def _names(text: str, notes: Notes) -> Iterator[str]:
    for item in _listed(text):
        if name := notes.name(f"label {PREFIX}name", item, wildcard=True):
            yield name


def _ports(ours: Mapping[str, str], notes: Notes) -> Iterator[Port]:
    for word in ("port", "ports"):
        for item in _listed(ours.get(word, "")):
            match = _PORT.fullmatch(item)
            number = int(match["port"]) if match else 0
            if match is None or not 0 < number < 65536:
                notes.add(
                    f"label {PREFIX}{word} has {item!r}: expected PORT, PORT/udp or NAME=PORT/tcp; left out"
                )
                continue
            name = _made(f"label {PREFIX}{word}: port name", (match["name"] or "").strip(), notes)
            yield Port(number, (match["protocol"] or "tcp").lower(), name)


def _meta(labels: Mapping[str, str], notes: Notes) -> Iterator[tuple[str, str]]:
    for key, value in labels.items():
        if not key.startswith(META):
            continue
        if _META_KEY.fullmatch(name := key.removeprefix(META)):
            yield name, value
        else:
            notes.add(f"label {key!r}: expected up to 63 printable ASCII characters after {META!r}; left out")


def _by_port(theirs: Mapping[str, str], notes: Notes) -> Iterator[tuple[int, str]]:
    for key, value in theirs.items():
        match = _PORT_SERVICE.fullmatch(key)
        if match and (name := _made(key, value, notes)):
            yield int(match[1]), name
