"""SRV: at a service's name, and by port below it (RFC 2782, ``_http._tcp.web``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from discoverd.resolver.iana import PORTS
from discoverd.resolver.outcome import ANY, SRV, Answer, Outcome, Record, SrvData
from discoverd.resolver.records import glue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from discoverd.model import Port
    from discoverd.nameindex import Found
    from discoverd.resolver.local import Asked, Local
    from discoverd.resolver.select import Chosen, Selection

PROTOCOLS = ("_tcp", "_udp")
#: HAProxy maps an SRV weight w to (w + 255) / 256, so one unit of weight here is 256 of SRV.
WEIGHT_UNIT = 256
MAX_WEIGHT = 65535  # RFC 2782: 16 bits


def resolve(local: Local, asked: Asked) -> Outcome | None:
    """``_<port>._<protocol>.<name>`` and ``_<protocol>.<name>``; None where the name is neither."""
    labels = asked.name.split(".")
    if labels[0] in PROTOCOLS and len(labels) > 1:
        wanted, protocol, base = None, labels[0][1:], ".".join(labels[1:])
    elif len(labels) > 2 and labels[0].startswith("_") and labels[1] in PROTOCOLS:
        wanted, protocol, base = labels[0][1:], labels[1][1:], ".".join(labels[2:])
    else:
        return None
    return _by_port(local, asked, base, lambda port: port.protocol == protocol and named(port, wanted))


def named(port: Port, wanted: str | None) -> bool:
    """Whether a port is meant by a number, by the name it was given, or by an IANA service name."""
    if wanted is None:
        return True
    if wanted.isdecimal():
        return int(wanted) in (port.port, port.published)
    if port.name:
        return port.name == wanted
    return port.port in PORTS.get(wanted, ())


def _by_port(local: Local, asked: Asked, base: str, wanted: Callable[[Port], bool]) -> Outcome:
    at_base = type(asked)(asked.question, base, asked.domain, asked.view, asked.bare)
    found = local.find(at_base)
    if not found.bindings and not found.gone and local.registry.syncing:
        return local.unsure()
    ports_known = any(wanted(p) for b in found.bindings for p in b.instance.ports)
    if not ports_known and not found.gone:
        return local.no_name(asked, found.depends)
    if asked.name.split(".", 1)[0] in PROTOCOLS:  # an empty non-terminal
        return local.no_data(asked, found.depends)
    selection = local.select(asked, found)
    if not selection.chosen:
        return local.no_data(asked, found.depends, 1)
    if asked.question.type == SRV:
        return srv(local, asked, found, selection, wanted)
    if asked.question.type == ANY:
        return local.answer(asked, found)
    return local.no_data(asked, found.depends)


def srv(
    local: Local, asked: Asked, found: Found, selection: Selection, wanted: Callable[[Port], bool]
) -> Outcome:
    """One record a port and instance, each instance's addresses in the additional section."""
    ttl = local.ttl(selection)
    scale = weight_scale(c.instance.weight for c in selection.chosen)
    records: list[Record] = []
    extra: list[Record] = []
    for choice in selection.chosen:
        ports = list(_reachable(choice, wanted))
        if not ports or not choice.instance.unique:
            continue
        target = f"{choice.instance.unique}.{asked.domain}"
        weight = min(MAX_WEIGHT, round(choice.instance.weight * scale))
        records += [Record(SRV, ttl, SrvData(0, weight, port, target)) for port in ports]
        extra += glue(choice, target, ttl)
    if not records:
        return local.no_data(asked, found.depends)
    return Answer(tuple(records), tuple(extra), found.depends)


def _reachable(choice: Chosen, wanted: Callable[[Port], bool]) -> Iterator[int]:
    """The port numbers that lead to an instance at the addresses it is served with, each once."""
    seen: set[int] = set()
    for port in choice.instance.ports:
        number = port.port
        if choice.published:
            if port.published is None or not port.published_beyond_host:
                continue
            number = port.published
        if wanted(port) and number not in seen:
            seen.add(number)
            yield number


def weight_scale(weights: Iterable[int]) -> float:
    """What to multiply weights with so that their proportions survive 16 bits and HAProxy."""
    most = max(weights, default=1)
    return float(WEIGHT_UNIT) if most * WEIGHT_UNIT <= MAX_WEIGHT else MAX_WEIGHT / most
