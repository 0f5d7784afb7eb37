"""Answers from the registry: a question and a view to an outcome.

What is asked is split into a domain and a relative name; every kind of name below it has its
own module (services, browse, reverse). See docs/names.md for the contract.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from discoverd.naming import QUALIFIED, Kind
from discoverd.nameindex import Found
from discoverd.resolver import browse, reverse, services
from discoverd.resolver.outcome import (
    AAAA,
    ANY,
    NS,
    SOA,
    SRV,
    TXT,
    A,
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
    SoaData,
)
from discoverd.resolver.records import addresses, effective_ttl, texts
from discoverd.resolver.select import Policy, Selection, select

if TYPE_CHECKING:
    from discoverd.model import IPAddress
    from discoverd.registry import Registry
    from discoverd.resolver.consul import ConsulNames
    from discoverd.views import View

#: Negative TTL, in seconds, of a service that is known but has nobody to serve.
EMPTY_TTL = 1
#: Most seconds an answer may be kept that rests on a source which is out of reach.
STALE_TTL = 5


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the configuration decides answers. Domains lower-case without the final dot; TTLs in
    seconds."""

    domains: tuple[str, ...] = ("docker",)
    ttl: int = 5
    negative_ttl: int = 5
    bare_names: bool = True
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question split by domain. ``bare``: it came without any domain."""

    question: Question
    name: str
    domain: str
    view: View
    bare: bool = False


class Local:
    """The resolver of everything that discoverd is authoritative for."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self.registry, self.settings = registry, settings
        #: Answers names under ``.consul`` where Consul is followed.
        self.consul: ConsulNames | None = None

    def resolve(self, question: Question, view: View, own: IPAddress | None = None) -> Outcome:
        """What this asker is to be told; ``own`` is the address it asked, for ``ns.<domain>``."""
        if self.consul is not None and self.consul.owns(question.name):
            return self.consul.resolve(question)
        if reverse.is_reverse(question.name):
            outcome = reverse.resolve(self, question)
            return outcome if self.consul is None else self.consul.reverse(question, outcome)
        asked = self.split(question, view)
        if not asked.bare:
            return self._below_domain(asked, own)
        if not self.settings.bare_names or not asked.name:
            return NotOurs()
        return self._bare(asked)

    def split(self, question: Question, view: View) -> Asked:
        """Cut the domain off; the longest configured one wins."""
        for domain in sorted(self.settings.domains, key=len, reverse=True):
            if question.name == domain:
                return Asked(question, "", domain, view)
            if question.name.endswith("." + domain):
                return Asked(question, question.name[: -len(domain) - 1], domain, view)
        return Asked(question, question.name, self.settings.domains[0], view, bare=True)

    # -- by kind of name ----------------------------------------------------------------

    def _below_domain(self, asked: Asked, own: IPAddress | None) -> Outcome:
        if not asked.name:
            return self._apex(asked)
        special = browse.resolve(self, asked) or services.resolve(self, asked)
        if special is not None:
            return special
        found = self.find(asked)
        if asked.name == "ns" and not found.bindings:
            return self._name_server(asked, own)
        if not found.bindings and not found.gone and self.registry.syncing:
            return self.unsure()
        if not found.exists:
            return self.no_name(asked, found.depends)
        return self.answer(asked, found)

    def _bare(self, asked: Asked) -> Outcome:
        if "." in asked.name:
            special = services.resolve(self, asked)
            if special is not None:
                return NotOurs() if isinstance(special, NxDomain | Fail) else special
        found = self.find(asked)
        if not _known_bare(asked.name, found):
            return self.unsure() if self.registry.syncing and "." not in asked.name else NotOurs()
        return self.answer(asked, found)

    def find(self, asked: Asked) -> Found:
        """What the name leads to for this asker: its own link aliases first, then everybody's names."""
        names = self.registry.names
        for link in asked.view.links:
            if link.alias == asked.name:
                held = tuple(
                    b
                    for b in names.at(link.target)
                    if b.instance.source == asked.view.source and b.kind in (Kind.OWN, Kind.SERVICE)
                )
                if held:
                    return Found(held, exists=True, depends=(asked.name, link.target))
        return names.find(asked.name)

    # -- outcomes -----------------------------------------------------------------------

    def select(self, asked: Asked, found: Found) -> Selection:
        return select(found, asked.view, self.settings.policy)

    def answer(self, asked: Asked, found: Found) -> Outcome:
        """Data of the wanted type from the instances that this asker gets, else NODATA."""
        selection = self.select(asked, found)
        chosen, wanted = selection.chosen, asked.question.type
        if not chosen:
            return self.no_data(asked, found.depends, EMPTY_TTL if found.bindings or found.gone else None)
        ttl = self.ttl(selection)
        if wanted in (A, AAAA):
            records = addresses(chosen, wanted, ttl)
            return Answer(records, (), found.depends) if records else self.no_data(asked, found.depends)
        if wanted == SRV:
            return services.srv(self, asked, found, selection, lambda _port: True)
        if wanted == TXT:
            records = texts(chosen, ttl)
            return Answer(records, (), found.depends) if records else self.no_data(asked, found.depends)
        if wanted == ANY:
            return Answer((minimal_any(ttl),), (), found.depends)
        return self.no_data(asked, found.depends)

    def ttl(self, selection: Selection) -> int:
        """Seconds for a whole record set (RFC 2181 section 5.2)."""
        instances = [c.instance for c in selection.chosen]
        ttl = effective_ttl(instances, self.settings.ttl)
        return min(ttl, STALE_TTL) if any(i.source in self.registry.stale for i in instances) else ttl

    def no_data(self, asked: Asked, depends: tuple[str, ...] = (), ttl: int | None = None) -> NoData:
        return NoData(self.soa(asked.domain, ttl), depends)

    def no_name(self, asked: Asked, depends: tuple[str, ...] = ()) -> NxDomain:
        return NxDomain(self.soa(asked.domain), depends)

    def unsure(self) -> Fail:
        return Fail(f"first sync not complete: {', '.join(sorted(self.registry.syncing))}")

    def soa(self, zone: str, negative_ttl: int | None = None) -> Record:
        """The SOA record; its TTL is the negative TTL (RFC 2308 section 3)."""
        minimum = self.settings.negative_ttl if negative_ttl is None else negative_ttl
        domain = zone if zone in self.settings.domains else self.settings.domains[0]
        data = SoaData(
            f"ns.{domain}", f"hostmaster.{domain}", self.registry.serial & 0xFFFFFFFF, 60, 10, 3600, minimum
        )
        return Record(SOA, minimum, data, zone)

    def _apex(self, asked: Asked) -> Outcome:
        wanted, domain, ttl = asked.question.type, asked.domain, self.settings.ttl
        if wanted == SOA:
            return Answer((self.soa(domain),))
        if wanted == NS:
            return Answer((Record(NS, ttl, NameData(f"ns.{domain}")),))
        if wanted == ANY:
            return Answer((minimal_any(ttl),))
        return self.no_data(asked)

    def _name_server(self, asked: Asked, own: IPAddress | None) -> Outcome:
        wanted = {4: A, 6: AAAA}.get(own.version) if own is not None else None
        if own is not None and wanted == asked.question.type and not own.is_unspecified:
            return Answer((Record(wanted, self.settings.ttl, own),))
        return self.no_data(asked)


def minimal_any(ttl: int) -> Record:
    """RFC 8482 section 4.2."""
    return Record(13, ttl, HinfoData("RFC8482", ""))


def _known_bare(name: str, found: Found) -> bool:
    """Whether a name without the domain is one of ours.

    Dotted ones only in the forms that name a scope, a replica or a network: an alias or a label
    that says ``example.com`` must not take that name over for everybody.
    """
    if found.wildcard or not (found.bindings or found.gone):
        return False
    if "." not in name:
        return True
    if found.any_health or any(b.kind in QUALIFIED for b in found.bindings):
        return True
    return not found.bindings and any(
        name == tail or name.endswith("." + tail)
        for tail in (f"{g.service}.{g.scope}" for g in found.gone if g.scope)
    )
