"""An instance's DNS names: which names it answers to, as pure functions.

All names are lower-case, dotted and relative to the domain (``web.shop`` stands for
``web.shop.docker``). The table of names is in docs/names.md.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from discoverd.model import Instance

MAX_LABEL = 63  # octets, RFC 1035 section 2.3.4
#: Characters of a relative name; leaves room for the domain within RFC 1035's 255 octets.
MAX_NAME = 180

_UNFIT = re.compile(r"[^a-z0-9_-]+")


def to_label(text: str) -> str | None:
    """Make one DNS label of any text: lower-case letters, digits, ``-`` and ``_``, or None.

    Every run of other characters becomes one ``-``; what is too long is cut and keeps a hash
    of the whole, so that two long names stay two. Leading underscores are dropped because
    they mark services in RFC 2782 names.
    """
    lower = text.lower()
    label = _UNFIT.sub("-", lower).lstrip("-_").rstrip("-")
    if len(label) > MAX_LABEL:
        # JSON may hold halves of surrogate pairs, which have no UTF-8
        digest = hashlib.sha256(lower.encode("utf-8", "surrogatepass")).hexdigest()
        label = f"{label[: MAX_LABEL - 9]}-{digest[:8]}"
    return label or None


def to_name(text: str, *, wildcard: bool = False) -> str | None:
    """Make a dotted relative name of any text, label by label, or None where nothing is left of it.

    With ``wildcard`` a first label ``*`` is kept (RFC 4592).
    """
    parts = text.strip().strip(".").split(".")
    labels: list[str] = []
    if wildcard and len(parts) > 1 and parts[0] == "*":
        labels.append("*")
        parts = parts[1:]
    for part in parts:
        label = to_label(part)
        if label is None:
            return None
        labels.append(label)
    name = ".".join(labels)
    return name if len(name) <= MAX_NAME else None


class Kind(StrEnum):
    """What makes an instance answer to a name; ``explain`` shows it."""

    SERVICE = "service"
    SCOPED = "service in its scope"
    REPLICA = "replica by number"
    OWN = "container name"
    ALIAS = "network alias"
    SCOPED_ALIAS = "network alias in its scope"
    TASKS = "tasks of a Swarm service"
    NETWORK = "service on a network"
    SHORT_NETWORK = "service on a network of its project"
    HOSTNAME = "hostname"
    ID = "id"
    EXTRA = "name given by a label"
    TAG = "tag"


#: Which kinds go first where one name is several things, the others being 1: ids are nobody else's,
#: a network called like a scope adds nothing to that scope's services, its name in a project's file nothing
#: to a network that is really called so, and a tag gives way to all.
PRECEDENCE = {Kind.ID: 0, Kind.NETWORK: 2, Kind.SHORT_NETWORK: 3, Kind.TAG: 4}

#: Kinds that a dotted name without the domain may be answered by (see docs/names.md, bare names).
QUALIFIED = frozenset(
    {Kind.SCOPED, Kind.REPLICA, Kind.SCOPED_ALIAS, Kind.TASKS, Kind.NETWORK, Kind.SHORT_NETWORK}
)


@dataclass(frozen=True, slots=True)
class Binding:
    """One instance's claim to a name. With ``network_id`` only its addresses there count."""

    instance: Instance
    kind: Kind
    network_id: str = ""


def bindings(instance: Instance) -> dict[str, Binding]:
    """Every relative name an instance answers to, each with the claim that goes first."""
    names: dict[str, Binding] = {}
    for name, kind, network_id in _claims(instance):
        old = names.get(name)
        if old is None or PRECEDENCE.get(kind, 1) < PRECEDENCE.get(old.kind, 1):
            names[name] = Binding(instance, kind, network_id)
    return names


def _claims(instance: Instance) -> Iterator[tuple[str, Kind, str]]:
    if instance.in_service:
        yield from _service_claims(instance)
        yield from _alias_claims(instance)
    if instance.task:
        yield from _task_claims(instance)
    if instance.hostname and (instance.in_service or instance.task):
        yield instance.hostname, Kind.HOSTNAME, ""
    for name in instance.own_names:
        yield name, Kind.OWN, ""
    if instance.unique:
        yield instance.unique, Kind.ID, ""
    for name in instance.extra_names:
        yield name, Kind.EXTRA, ""
    yield from _network_claims(instance)


def _service_claims(instance: Instance) -> Iterator[tuple[str, Kind, str]]:
    service, scope, replica = instance.service, instance.scope, instance.replica
    qualified = f"{service}.{scope}" if scope else service
    yield service, Kind.SERVICE, ""
    if scope:
        yield qualified, Kind.SCOPED, ""
    if replica is not None:
        yield f"{replica}.{qualified}", Kind.REPLICA, ""
    for tag in instance.tags:
        label = to_label(tag)
        if label:
            yield f"{label}.{service}", Kind.TAG, ""
            yield f"{label}.{qualified}", Kind.TAG, ""


def _task_claims(instance: Instance) -> Iterator[tuple[str, Kind, str]]:
    """What Docker's own DNS calls them, in the scope as well; and their number."""
    service, scope = instance.service, instance.scope
    qualified = f"{service}.{scope}" if scope else service
    for name in dict.fromkeys((service, qualified, f"{scope}_{service}" if scope else service)):
        yield f"tasks.{name}", Kind.TASKS, ""
    if instance.replica is not None:
        yield f"{instance.replica}.{qualified}", Kind.REPLICA, ""


def _alias_claims(instance: Instance) -> Iterator[tuple[str, Kind, str]]:
    for membership in instance.memberships:
        for alias in membership.aliases:
            yield alias, Kind.ALIAS, ""
            if instance.scope:
                yield f"{alias}.{instance.scope}", Kind.SCOPED_ALIAS, ""


def _network_claims(instance: Instance) -> Iterator[tuple[str, Kind, str]]:
    """What an instance is called on a network, below the network's name, as Docker's own DNS has it.

    Compose calls the network ``edge`` of the project ``shop`` ``shop_edge``: it goes by both.
    """
    own = (*instance.own_names, instance.unique)
    for membership in instance.memberships:
        shared = (instance.service, *membership.aliases) if instance.in_service else ()
        tasks = (f"tasks.{instance.service}",) if instance.task else ()
        whole, short = to_label(membership.network), to_label(membership.short)
        for network, kind in ((whole, Kind.NETWORK), (short, Kind.SHORT_NETWORK)):
            # every project has a default network: that one's short name tells nothing
            if network and not (kind is Kind.SHORT_NETWORK and network in {whole, "default"}):
                for name in (*shared, *tasks, *own):
                    if name:
                        yield f"{name}.{network}", kind, membership.network_id


def ancestors(name: str) -> Iterator[str]:
    """The names above a relative name, nearest first, the apex left out."""
    while (dot := name.find(".")) >= 0:
        name = name[dot + 1 :]
        yield name


class Above:
    """The names above those of a set, each with how many of the set are below it."""

    def __init__(self) -> None:
        self._below: dict[str, int] = {}
        self.names: Mapping[str, int] = self._below

    def __contains__(self, name: str) -> bool:
        return name in self._below

    def add(self, name: str) -> set[str]:
        """Returns the names that had nothing below them until now."""
        new: set[str] = set()
        for above in ancestors(name):
            self._below[above] = self._below.get(above, 0) + 1
            if self._below[above] == 1:
                new.add(above)
        return new

    def remove(self, name: str) -> set[str]:
        """Returns the names that have nothing below them any more."""
        ended: set[str] = set()
        for above in ancestors(name):
            self._below[above] -= 1
            if not self._below[above]:
                del self._below[above]
                ended.add(above)
        return ended
