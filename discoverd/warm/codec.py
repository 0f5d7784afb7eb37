"""What a source last said, as lines of JSON and back. Pure.

A head that says whose it is, a line for each object, network, service and node, and a last line with
the count and the checksum of all before it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

# pydantic reads the annotations at run time
from discoverd.catalog import Endpoint, Node  # noqa: TC001
from discoverd.model import Instance, Network  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WHAT: Final = "discoverd last known"
#: The layout; fields that only came to the model need no new one, what was left out is as by default.
FORMAT: Final = 1


class UnusableError(Exception):
    """A file is not one to go by; the text says why."""


@dataclass(frozen=True, slots=True)
class Followed:
    """A source as its files know it: ``settings`` is a digest of what makes it another source.

    ``datacenter`` is that of a Consul source, empty for the agent's own; None for other sources.
    """

    name: str
    settings: str
    datacenter: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What one source last said."""

    objects: Mapping[str, tuple[Instance, ...]] = field(default_factory=dict)
    networks: tuple[Network, ...] = ()
    #: Of Consul's catalog: the datacenter that this is, and all that its agent knew of.
    datacenter: str = ""
    datacenters: frozenset[str] = frozenset()
    services: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)


class _Line(BaseModel):
    """One line; a name that this version does not know makes it another version's."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    object: str | None = None
    instances: tuple[Instance, ...] = ()
    network: Network | None = None
    service: str | None = None
    endpoints: tuple[Endpoint, ...] = ()
    name: str = ""
    node: Node | None = None

    def octets(self) -> bytes:
        """Raises ValueError for text that UTF-8 has no form for."""
        return self.model_dump_json(exclude_defaults=True).encode() + b"\n"


def encode(source: Followed, known: Known) -> Iterator[bytes]:
    """The lines of a file. What cannot be written is left out: it is one object, and not the others."""
    digest, count = hashlib.sha256(), 0
    for line in _lines(source, known):
        digest.update(line)
        count += 1
        yield line
    yield _json({"lines": count, "sha256": digest.hexdigest()})


def _lines(source: Followed, known: Known) -> Iterator[bytes]:
    head: dict[str, Any] = {
        "file": WHAT,
        "format": FORMAT,
        "source": source.name,
        "settings": source.settings,
    }
    if source.datacenter is not None:
        head |= {"datacenter": known.datacenter, "datacenters": sorted(known.datacenters)}
    yield _json(head)
    for line in _parts(known):
        try:
            yield line.octets()
        except ValueError:
            continue


def _parts(known: Known) -> Iterator[_Line]:
    make = _Line.model_construct  # what comes from the registry need not be checked again
    for network in known.networks:
        yield make(network=network)
    for key, instances in known.objects.items():
        yield make(object=key, instances=instances)
    for name, node in known.nodes.items():
        yield make(name=name, node=node)
    for key, endpoints in known.services.items():
        yield make(service=key, endpoints=endpoints)


def decode(source: Followed, data: bytes) -> Known:
    """What a file says of this source. Raises UnusableError."""
    head, body = _checked(source, data)
    objects: dict[str, tuple[Instance, ...]] = {}
    networks: list[Network] = []
    services: dict[str, tuple[Endpoint, ...]] = {}
    nodes: dict[str, Node] = {}
    for number, text in enumerate(body, 2):
        try:
            line = _Line.model_validate_json(text)
        except ValidationError as error:
            kinds = {fault["type"] for fault in error.errors()}
            if kinds & {"extra_forbidden", "unexpected_keyword_argument"}:
                raise UnusableError("written by a newer version of discoverd") from None
            raise UnusableError(f"damaged (line {number} cannot be read)") from None
        if line.network is not None:
            networks.append(line.network)
        elif line.object is not None:
            objects[line.object] = line.instances
        elif line.service is not None:
            services[line.service] = line.endpoints
        elif line.node is not None:
            nodes[line.name] = line.node
    return Known(
        objects,
        tuple(networks),
        str(head.get("datacenter", "")),
        frozenset(head.get("datacenters", ())),
        services,
        nodes,
    )


def _checked(source: Followed, data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The head, and the lines between it and the checksum, which holds."""
    lines = data.split(b"\n")
    head = _object(lines[0])
    if head.get("file") != WHAT:
        raise UnusableError("no file of discoverd's")
    if head.get("format") != FORMAT:
        raise UnusableError(f"written by another version of discoverd (format {head.get('format')})")
    last = _object(lines[-2]) if len(lines) > 2 and not lines[-1] else {}
    if "sha256" not in last:
        raise UnusableError("cut off")
    body = data[: len(data) - len(lines[-2]) - 1]
    if last != {"lines": len(lines) - 2, "sha256": hashlib.sha256(body).hexdigest()}:
        raise UnusableError("damaged (its checksum is another)")
    if head.get("source") != source.name or head.get("settings") != source.settings:
        raise UnusableError("of another source, or of other settings")
    return head, lines[1:-2]


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"
