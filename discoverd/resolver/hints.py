"""What to look at next when an answer is not the one that was hoped for. Pure."""

from __future__ import annotations

import difflib
from itertools import islice
from typing import TYPE_CHECKING

from discoverd.model import Health, State
from discoverd.resolver.outcome import AAAA, A, Answer, Fail, NoData, NotOurs, NxDomain
from discoverd.views import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoverd.model import Instance
    from discoverd.resolver.local import Asked, Local
    from discoverd.resolver.outcome import Outcome

#: Names that a wrong one is compared with.
COMPARED_MOST = 20_000


def of(
    local: Local, asked: Asked, outcome: Outcome, considered: tuple[tuple[Instance, str | None], ...]
) -> Iterator[str]:
    """Sentences, the most likely cause first; none where all is as one would expect."""
    match outcome:
        case NxDomain():
            yield from _no_such_name(local, asked)
        case NotOurs():
            yield from _not_ours(local, asked)
        case Fail():
            yield from _sources(local)
        case NoData():
            yield from _no_data(asked, considered)
        case Answer():
            yield from _served_unwell(considered)
    stale = sorted({i.source for i, _ in considered} & local.registry.stale)
    if stale:
        yield f"{', '.join(stale)} is out of reach: this is what it last said"


def _no_such_name(local: Local, asked: Asked) -> Iterator[str]:
    near = difflib.get_close_matches(asked.name, islice(local.registry.names.bound(), COMPARED_MOST), 3)
    if near:
        yield "similar names exist: " + ", ".join(f"{name}.{asked.domain}" for name in near)
    elif not len(local.registry.names):
        yield "nothing is known at all: `discoverd doctor` says what may be wrong with the sources"
    else:
        yield "`discoverd services` lists every name that exists"


def _not_ours(local: Local, asked: Asked) -> Iterator[str]:
    domains = local.settings.domains
    if asked.name in local.registry.names:
        yield f"{asked.name}.{domains[0]} exists; this form without the domain is not answered here"
    else:
        yield f"only names below {', '.join(domains)} are answered from the registry"


def _sources(local: Local) -> Iterator[str]:
    for name in sorted(local.registry.syncing):
        status = local.registry.status(name)
        since = " since the start, what it last said is served" if status.restored else ""
        yield f"{name} has not synced yet{since}: {status.last_error or 'no answer so far'}"


def _no_data(asked: Asked, considered: tuple[tuple[Instance, str | None], ...]) -> Iterator[str]:
    if not considered:
        yield "the name has had instances, or names below it have: it is not denied"
        return
    if all(why for _, why in considered):
        if asked.view.place is Place.NETWORK:
            yield "connect the asker and an instance to one network, or see why each was left out"
        else:
            yield "see why each instance was left out"
        return
    versions = {a.ip.version for i, why in considered if why is None for a in i.addresses}
    if asked.question.type in (A, AAAA) and versions:
        yield f"the instances have IPv{min(versions)} addresses only"
    elif not any(i.ports for i, why in considered if why is None):
        yield "no instance has a port: expose one, or name it in the registration"


def _served_unwell(considered: tuple[tuple[Instance, str | None], ...]) -> Iterator[str]:
    served = [i for i, why in considered if why is None]
    if served and all(i.state is State.DRAINING for i in served):
        yield "the last instance is being stopped"
    elif served and not any(i.health is Health.HEALTHY for i in served):
        yield "no instance is healthy: all that run are served, unless health.when_none is empty"
