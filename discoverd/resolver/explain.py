"""Why an asker is answered as it is: the same selection that answers, in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from discoverd.resolver import hints, services
from discoverd.resolver.outcome import (
    Answer,
    Fail,
    HinfoData,
    NameData,
    NoData,
    NotOurs,
    NxDomain,
    Outcome,
    Question,
    Record,
    Refused,
    SoaData,
    SrvData,
    TxtData,
)

if TYPE_CHECKING:
    from discoverd.model import Instance
    from discoverd.resolver.local import Local
    from discoverd.views import View

TYPES = {
    "A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "HINFO": 13, "MX": 15, "TXT": 16, "AAAA": 28,
    "SRV": 33, "NAPTR": 35, "DS": 43, "DNSKEY": 48, "SVCB": 64, "HTTPS": 65, "ANY": 255, "CAA": 257,
}  # fmt: skip
TYPE_NAMES = {number: name for name, number in TYPES.items()}


@dataclass(frozen=True, slots=True)
class Explanation:
    """An outcome with the instances that were considered; ``considered`` holds (instance, why it was
    left out or None).
    """

    question: Question
    view: View
    client: Instance | None
    outcome: Outcome
    considered: tuple[tuple[Instance, str | None], ...]
    #: The names of the view's networks, and what to look at next, in words.
    networks: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


def type_number(text: str) -> int | None:
    """The number of a record type given by name or as TYPE123 (RFC 3597); None for neither."""
    upper = text.upper()
    if upper in TYPES:
        return TYPES[upper]
    digits = upper.removeprefix("TYPE")
    decimal = digits.isascii() and digits.isdecimal() and len(digits) <= 5
    return int(digits) if decimal and int(digits) < 65536 else None


def explain(local: Local, question: Question, view: View, client: Instance | None) -> Explanation:
    """Resolve a question as for an asker of this view, and say why."""
    outcome = local.resolve(question, view)
    asked = local.split(question, view)
    base = services.split(asked.name)[2]  # SRV by port is about the service below it
    found = local.find(replace(asked, name=base)) if base else None
    considered: list[tuple[Instance, str | None]] = []
    if found is not None and not isinstance(outcome, NotOurs):
        selection = local.select(asked, found)
        considered += [(c.instance, None) for c in selection.chosen]
        considered += list(selection.left_out)
    names = tuple(sorted(n.name for n in local.registry.networks() if n.id in view.networks))
    advice = tuple(hints.of(local, asked, outcome, tuple(considered)))
    return Explanation(question, view, client, outcome, tuple(considered), names, advice)


def data_text(record: Record) -> str:
    """A record's data in presentation format (RFC 1035 section 5)."""
    match record.data:
        case SrvData(priority, weight, port, target):
            return f"{priority} {weight} {port} {target}."
        case NameData(name):
            return f"{name}."
        case TxtData(strings):
            return " ".join(f'"{_quoted(s)}"' for s in strings)
        case SoaData():
            d = record.data
            times = f"{d.serial} {d.refresh} {d.retry} {d.expire} {d.minimum}"
            return f"{d.primary}. {d.mailbox}. {times}"
        case HinfoData(cpu, system):
            return f'"{cpu}" "{system}"'
        case _:
            return str(record.data)


def _quoted(string: bytes) -> str:
    """A character-string as it stands between quotes: UTF-8 that can be shown as it is, other octets by
    number (RFC 1035 section 5.1).
    """
    text = string.decode("utf-8", "surrogateescape")
    return "".join(f"\\{c}" if c in '"\\' else c if c.isprintable() else _octets(c) for c in text)


def _octets(character: str) -> str:
    return "".join(f"\\{octet:03}" for octet in character.encode("utf-8", "surrogateescape"))


def as_json(explanation: Explanation) -> dict[str, Any]:
    """The explanation as the API's ``/v1/resolve`` gives it."""
    question, outcome, view = explanation.question, explanation.outcome, explanation.view
    status, reason = _status(outcome)
    records = outcome.records if isinstance(outcome, Answer) else ()
    return {
        "name": question.name,
        "type": TYPE_NAMES.get(question.type, f"TYPE{question.type}"),
        "status": status,
        "reason": reason,
        "view": {
            "place": view.place.value,
            "networks": sorted(view.networks),
            "network_names": list(explanation.networks),
            "client": explanation.client.own_names[0]
            if explanation.client and explanation.client.own_names
            else None,
            "links": [{"alias": link.alias, "target": link.target} for link in view.links],
        },
        "answers": [_record(r, question.name) for r in records],
        "additional": [_record(r, question.name) for r in outcome.extra]
        if isinstance(outcome, Answer)
        else [],
        "hints": list(explanation.hints),
        "considered": [
            {
                "id": instance.id,
                "service": instance.service,
                "scope": instance.scope,
                "name": instance.own_names[0] if instance.own_names else instance.unique,
                "state": instance.state.value,
                "health": instance.health.value,
                "chosen": why is None,
                "why": why or "",
            }
            for instance, why in explanation.considered
        ],
    }


def _record(record: Record, asked: str) -> dict[str, Any]:
    return {
        "name": record.owner or asked,
        "type": TYPE_NAMES.get(record.type, f"TYPE{record.type}"),
        "ttl": record.ttl,
        "data": data_text(record),
    }


def _status(outcome: Outcome) -> tuple[str, str]:
    match outcome:
        case Answer():
            return "NOERROR", "answered"
        case NoData():
            return "NOERROR", "the name exists, but there is no such data for this asker"
        case NxDomain():
            return "NXDOMAIN", "no such name, nor any below it"
        case Fail(reason):
            return "SERVFAIL", reason
        case Refused(reason):
            return "REFUSED", reason
        case _:
            return "NOTOURS", "the name belongs to nobody here; it is forwarded where that is allowed"
