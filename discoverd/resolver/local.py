"""Answers from the registry: a question and a view to an outcome.

What is asked is split into a domain and a relative name; every kind of name below it has its
own module (services, browse, reverse). See docs/names.md for the contract.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from discoverd.model import State
from discoverd.naming import QUALIFIED
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
from discoverd.resolver.select import Policy, Selection, nowhere, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discoverd.model import Instance, IPAddress
    from discoverd.nameindex import Found
    from discoverd.registry import Registry
    from discoverd.resolver.consul import ConsulNames
    from discoverd.resolver.select import Hosts
    from discoverd.views import View

#: Negative TTL, in seconds, of a service that is known but has nobody to serve.
EMPTY_TTL = 1
#: Most seconds an answer may be kept that rests on a source which is out of reach.
STALE_TTL = 5


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the configuration decides answers.

    Domains are in lower case without the final dot, TTLs in seconds.
    """

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
        self.offers = browse.Offers(registry)
        #: Answers names under ``.consul`` where Consul is followed.
        self.consul: ConsulNames | None = None
        #: Where askers reach what uses its host's own network stack.
        self.hosts: Hosts = nowhere

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
        return self._bare(asked) if self.settings.bare_names and asked.name else NotOurs()

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
            return self._apex(asked, own)
        special = browse.resolve(self, asked) or services.resolve(self, asked)
        if special is not None:
            return special
        found = self.find(asked)
        if asked.name == "ns" and not found.bindings:
            return self._name_server(asked, own)
        if self.is_unsure(found):
            return self.unsure()
        return self.answer(asked, found) if found.exists else self.no_name(asked, found.depends)

    def _bare(self, asked: Asked) -> Outcome:
        base = services.split(asked.name)[2]
        found = self.find(replace(asked, name=base))
        if any(link.alias == base for link in asked.view.links) or _is_ours(base, found):
            return services.resolve(self, asked) or self.answer(asked, found)
        return self.unsure() if self.registry.syncing and "." not in base else NotOurs()

    def find(self, asked: Asked) -> Found:
        """What the name leads to for this asker: its own link aliases first, then everybody's names."""
        names, view = self.registry.names, asked.view
        found = names.find(asked.name)
        targets = tuple(dict.fromkeys(link.target for link in view.links if link.alias == asked.name))
        if not targets:
            return found
        of_engine = [b for t in targets for b in names.at(t) if b.instance.source == view.source]
        linked = [b for b in of_engine if not set(targets).isdisjoint(b.instance.own_names)] or of_engine
        alive = any(b.instance.state in (State.RUNNING, State.DRAINING) for b in linked)
        return replace(
            found,
            # a link to what is down gives way to a service that goes by the same name
            bindings=tuple(linked) if alive or not found.bindings else found.bindings,
            exists=True,
            depends=(*found.depends, *targets),
            gone=(*found.gone, *(g for target in targets for g in names.gone(target))),
        )

    # -- outcomes -----------------------------------------------------------------------

    def select(self, asked: Asked, found: Found) -> Selection:
        return select(found, asked.view, self.settings.policy, self.hosts)

    def answer(self, asked: Asked, found: Found, pick: services.Pick | None = None) -> Outcome:
        """Data of the wanted type from the instances that this asker gets, else NODATA.

        With ``pick`` the name is about some of their ports only.
        """
        selection = self.select(asked, found)
        chosen, wanted = selection.chosen, asked.question.type
        if not chosen:
            return self.nobody(asked, found)
        if wanted == SRV:
            return services.srv(self, asked, found, selection, pick or services.all_ports)
        ttl = self.ttl(selection)
        records: tuple[Record, ...] = ()
        if wanted == ANY:
            records = (minimal_any(ttl),)
        elif wanted in (A, AAAA) and pick is None:
            records = addresses(chosen, wanted, ttl)
        elif wanted == TXT and pick is None:
            records = texts(chosen, ttl)
        return Answer(records, (), found.depends) if records else self.no_data(asked, found.depends)

    def ttl(self, selection: Selection) -> int:
        """Seconds for a whole record set (RFC 2181 section 5.2)."""
        return self.ttl_of([c.instance for c in selection.chosen])

    def ttl_of(self, instances: Sequence[Instance]) -> int:
        """Seconds: the least that any of them allows, and little where a source is out of reach.

        No instances stand for all of them.
        """
        ttl, stale = effective_ttl(instances, self.settings.ttl), self.registry.stale
        out_of_reach = any(i.source in stale for i in instances) if instances else bool(stale)
        return min(ttl, STALE_TTL) if out_of_reach else ttl

    def no_data(self, asked: Asked, depends: tuple[str, ...] = (), ttl: int | None = None) -> NoData:
        return NoData(self.soa(asked.domain, ttl), depends)

    def nobody(self, asked: Asked, found: Found) -> NoData:
        """A service that is known, or was a moment ago, has nobody to serve: soon it may."""
        soon = min(EMPTY_TTL, self.settings.negative_ttl) if found.bindings or found.gone else None
        return self.no_data(asked, found.depends, soon)

    def no_name(self, asked: Asked, depends: tuple[str, ...] = ()) -> NxDomain:
        return NxDomain(self.soa(asked.domain), depends)

    def is_unsure(self, found: Found) -> bool:
        """Whether a name that nobody answers to may be somebody's that is not known yet."""
        return not found.bindings and not found.gone and bool(self.registry.syncing)

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

    def _apex(self, asked: Asked, own: IPAddress | None) -> Outcome:
        wanted, domain, ttl = asked.question.type, asked.domain, self.settings.ttl
        if wanted == SOA:
            return Answer((self.soa(domain),))
        if wanted == NS:
            return Answer((Record(NS, ttl, NameData(f"ns.{domain}")),), own_records(own, ttl, f"ns.{domain}"))
        if wanted == ANY:
            return Answer((minimal_any(ttl),))
        return self.no_data(asked)

    def _name_server(self, asked: Asked, own: IPAddress | None) -> Outcome:
        """``ns.<domain>`` is the address that was asked."""
        records = own_records(own, self.settings.ttl)
        if records and asked.question.type == ANY:
            return Answer((minimal_any(self.settings.ttl),))
        return Answer(records) if records and records[0].type == asked.question.type else self.no_data(asked)


def own_records(own: IPAddress | None, ttl: int, owner: str | None = None) -> tuple[Record, ...]:
    """The server's own address as a record; none where it is not known."""
    if own is None or own.is_unspecified:
        return ()
    return (Record(A if own.version == 4 else AAAA, ttl, own, owner),)


def minimal_any(ttl: int) -> Record:
    """RFC 8482 section 4.2."""
    return Record(13, ttl, HinfoData("RFC8482", ""))


def _is_ours(name: str, found: Found) -> bool:
    """Whether a name without the domain is one of ours.

    Dotted ones only in the forms that name a scope, a replica or a network: an alias or a label
    that says ``example.com`` must not take that name over for everybody.
    """
    kinds = {binding.kind for binding in found.bindings} | {gone.kind for gone in found.gone}
    return bool(kinds) if "." not in name else found.any_health or not QUALIFIED.isdisjoint(kinds)
