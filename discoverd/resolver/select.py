"""Which instances of a name a given asker gets, at which of their addresses, and why not the others.

Pure; the resolver answers with it and ``explain`` shows it, so what is explained is what is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from discoverd.model import Address, Health, Instance, State
from discoverd.views import Place, View

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from discoverd.nameindex import Found, Gone
    from discoverd.naming import Binding


@dataclass(frozen=True, slots=True)
class Policy:
    """The configured choices. ``strict``: askers inside a network get nothing from beyond their
    networks. ``fail_open``: with no healthy instance, all running ones are served."""

    strict: bool = False
    fail_open: bool = True


@dataclass(frozen=True, slots=True)
class Chosen:
    """An instance that is served and the addresses it is served with.

    ``published``: the addresses are the host's, and only published ports lead to the instance.
    """

    instance: Instance
    addresses: tuple[Address, ...]
    published: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """``left_out`` says of every other instance, in words, why."""

    chosen: tuple[Chosen, ...]
    left_out: tuple[tuple[Instance, str], ...]


def select(found: Found, view: View, policy: Policy) -> Selection:
    """Apply, in this order: reach (networks), life (state), fitness (health), address."""
    left_out: list[tuple[Instance, str]] = []
    near = _reachable(found.bindings, found.gone, view, policy, left_out)
    live = _live(near, left_out)
    fit = live if found.any_health else _fit(live, policy, left_out)
    chosen: list[Chosen] = []
    for binding in fit:
        choice = _addressed(binding, view)
        if choice.addresses:
            chosen.append(choice)
        else:
            left_out.append((binding.instance, _no_address(binding, view)))
    return Selection(tuple(chosen), tuple(left_out))


def _reachable(
    held: Sequence[Binding],
    gone: Iterable[Gone],
    view: View,
    policy: Policy,
    left_out: list[tuple[Instance, str]],
) -> list[Binding]:
    """Those on the asker's networks; else all of them, or with ``strict`` those bound to no network.

    Stopped and just removed instances count as being on their networks: while a project's only
    ``db`` is down, its clients get no other project's ``db``, but may get another instance of
    the same service that they share no network with.
    """
    if view.place is not Place.NETWORK:
        return list(held)
    near = [b for b in held if not view.networks.isdisjoint(_network_ids(b))]
    if any(b.instance.state in (State.RUNNING, State.DRAINING) for b in near):
        chosen, why = near, "it shares no network with the asker, and others do"
    elif policy.strict:
        chosen = near + [b for b in held if not b.instance.memberships]
        why = "it shares no network with the asker, and scope is strict"
    else:
        own = {(b.instance.service, b.instance.scope) for b in near}
        own |= {(g.service, g.scope) for g in gone if not view.networks.isdisjoint(g.network_ids)}
        if not own:
            return list(held)
        chosen = [b for b in held if (b.instance.service, b.instance.scope) in own]
        why = "it belongs to another scope, and the asker's own is down"
    ids = {id(b) for b in chosen}
    left_out.extend((b.instance, why) for b in held if id(b) not in ids)
    return chosen


def _network_ids(binding: Binding) -> frozenset[str]:
    ids = binding.instance.network_ids
    return ids & {binding.network_id} if binding.network_id else ids


def _live(held: list[Binding], left_out: list[tuple[Instance, str]]) -> list[Binding]:
    """Running ones; draining ones only where nothing else runs."""
    running = [b for b in held if b.instance.state is State.RUNNING]
    wanted = State.RUNNING if running else State.DRAINING
    for binding in held:
        if binding.instance.state is not wanted:
            left_out.append((binding.instance, f"it is {binding.instance.state}"))
    return running or [b for b in held if b.instance.state is State.DRAINING]


def _fit(held: list[Binding], policy: Policy, left_out: list[tuple[Instance, str]]) -> list[Binding]:
    healthy = [b for b in held if b.instance.health is Health.HEALTHY]
    if not healthy and policy.fail_open:
        return held
    why = "" if healthy else ", and health.when_none is empty"
    for binding in held:
        if binding.instance.health is not Health.HEALTHY:
            left_out.append((binding.instance, f"it is {binding.instance.health}{why}"))
    return healthy


def _addressed(binding: Binding, view: View) -> Chosen:
    instance = binding.instance
    free = tuple(a for a in instance.addresses if not a.network_id)
    if binding.network_id:
        return Chosen(instance, _on(instance, binding.network_id))
    if view.place is Place.NETWORK:
        shared = [a for a in instance.addresses if a.network_id in view.networks]
        if shared:
            return Chosen(instance, _on(instance, shared[0].network_id))
    if view.place is Place.ELSEWHERE and instance.host_address is not None:
        if not any(p.published and p.published_beyond_host for p in instance.ports):
            return Chosen(instance, ())
        return Chosen(instance, (Address(instance.host_address),), published=True)
    return Chosen(instance, free or _preferred(instance))


def _on(instance: Instance, network_id: str) -> tuple[Address, ...]:
    return tuple(a for a in instance.addresses if a.network_id == network_id)


def _preferred(instance: Instance) -> tuple[Address, ...]:
    """Those on the preferred network, and the first of a family that it has none of."""
    if not instance.addresses:
        return ()
    chosen = list(_on(instance, instance.addresses[0].network_id))
    versions = {a.ip.version for a in chosen}
    for address in instance.addresses:
        if address.ip.version not in versions:
            chosen.append(address)
            versions.add(address.ip.version)
    return tuple(chosen)


def _no_address(binding: Binding, view: View) -> str:
    if view.place is Place.ELSEWHERE and binding.instance.host_address is not None:
        return "it publishes no port that can be reached from beyond the host"
    if binding.network_id:
        return "it has no address on that network"
    return "it has no address"
