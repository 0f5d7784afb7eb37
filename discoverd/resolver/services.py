"""SRV: at a service's name, and by port below it (RFC 2782, ``_http._tcp.web``)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from discoverd.resolver.iana import PORTS
from discoverd.resolver.outcome import SRV, Answer, Outcome, Record, SrvData
from discoverd.resolver.records import glue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from discoverd.model import Instance, Port
    from discoverd.nameindex import Found
    from discoverd.resolver.local import Asked, Local
    from discoverd.resolver.select import Chosen, Selection

    #: Which of an instance's ports are asked for.
    Pick = Callable[[Instance], Iterable[Port]]

PROTOCOLS = ("_tcp", "_udp")
#: HAProxy maps an SRV weight w to (w + 255) / 256, so one unit of weight here is 256 of SRV.
WEIGHT_UNIT = 256
MAX_WEIGHT = 65535  # RFC 2782: 16 bits


def split(name: str) -> tuple[str, str, str]:
    """``_http._tcp.web`` as port, protocol and name; no port, or neither, where they are not there."""
    labels = name.split(".")
    if labels[0] in PROTOCOLS and len(labels) > 1:
        return "", labels[0][1:], ".".join(labels[1:])
    if labels[0].startswith("_") and labels[0] != "_" and len(labels) > 2 and labels[1] in PROTOCOLS:
        return labels[0][1:], labels[1][1:], ".".join(labels[2:])
    return "", "", name


def resolve(local: Local, asked: Asked) -> Outcome | None:
    """``_<port>._<protocol>.<name>`` and ``_<protocol>.<name>``; None where the name is neither."""
    wanted, protocol, base = split(asked.name)
    if not protocol:
        return None
    found = local.find(replace(asked, name=base))
    if local.is_unsure(found):
        return local.unsure()

    def pick(instance: Instance) -> tuple[Port, ...]:
        return matching(instance.ports, protocol, wanted)

    if not found.gone and not any(pick(b.instance) for b in found.bindings):
        return local.no_name(asked, found.depends)
    if not wanted:  # nothing by itself, but there are names below it
        return local.no_data(asked, found.depends)
    return local.answer(asked, found, pick)


def matching(ports: Iterable[Port], protocol: str, wanted: str) -> tuple[Port, ...]:
    """Those of an instance's ports that are meant best: port 80 is http where none was given that name."""
    ranked = [(_rank(p, wanted), p) for p in ports if p.protocol == protocol]
    best = min((rank for rank, _ in ranked if rank is not None), default=None)
    return tuple(port for rank, port in ranked if rank is not None and rank == best)


def named(port: Port, wanted: str | None) -> bool:
    """Whether a port may be meant by a number, by the name it was given, or by an IANA service name."""
    return _rank(port, wanted or "") is not None


def all_ports(instance: Instance) -> tuple[Port, ...]:
    return instance.ports


def _rank(port: Port, wanted: str) -> int | None:
    """How well a number or a name means a port, 0 best, None not at all; nothing means any port."""
    if wanted.isdecimal():  # the host's number is known to who looks from there
        numbers = (str(port.port), str(port.published))
        return numbers.index(wanted) if wanted in numbers else None
    if not wanted or port.name == wanted:
        return 0
    usual, *others = PORTS.get(wanted, (0,))
    return 1 if port.port == usual or (port.port in others and not port.name) else None


def srv(local: Local, asked: Asked, found: Found, selection: Selection, pick: Pick) -> Outcome:
    """One record a port and instance, each instance's addresses in the additional section."""
    ttl = local.ttl(selection)
    scale = weight_scale(c.instance.weight for c in selection.chosen)
    records: dict[Record, None] = {}
    extra: dict[Record, None] = {}
    for choice in selection.chosen:
        ports = list(_reachable(choice, pick))
        if not ports or not choice.instance.unique:
            continue
        target = ".".join(filter(None, (choice.instance.unique, choice.network, asked.domain)))
        weight = min(MAX_WEIGHT, round(choice.instance.weight * scale))
        records |= dict.fromkeys(Record(SRV, ttl, SrvData(0, weight, port, target)) for port in ports)
        extra |= dict.fromkeys(glue(choice, target, ttl))
    if not records:
        return local.no_data(asked, found.depends)
    return Answer(tuple(records), tuple(extra), found.depends)


def _reachable(choice: Chosen, pick: Pick) -> Iterator[int]:
    """The port numbers that lead to an instance at the addresses it is served with, each once."""
    seen: set[int] = set()
    for port in pick(choice.instance):
        number = port.published if choice.published else port.port
        if number is None or (choice.published and not port.published_beyond_host) or number in seen:
            continue
        seen.add(number)
        yield number


def weight_scale(weights: Iterable[int]) -> float:
    """What to multiply weights with so that their proportions survive 16 bits and HAProxy."""
    most = max(weights, default=1)
    return float(WEIGHT_UNIT) if most * WEIGHT_UNIT <= MAX_WEIGHT else MAX_WEIGHT / most
