"""Which instances of a name a given asker gets, at which of their addresses, and why not the others.

Pure; the resolver answers with it and ``explain`` shows it, so what is explained is what is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from discoverd.model import Address, Health, Instance, State
from discoverd.naming import Kind, to_label
from discoverd.views import Place, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from discoverd.nameindex import Found, Gone
    from discoverd.naming import Binding

    Hosts = Callable[[str, View], tuple[Address, ...]]


@dataclass(frozen=True, slots=True)
class Policy:
    """The configured choices.

    ``strict``: askers inside a network get nothing from other networks. ``fail_open``: with no
    healthy instance, all running ones are served.
    """

    strict: bool = False
    fail_open: bool = True


@dataclass(frozen=True, slots=True)
class Chosen:
    """An instance that is served and the addresses it is served with.

    ``published``: the addresses are the host's, and only published ports lead to the instance.
    ``network``: the label of the network that was asked for by name, else "".
    """

    instance: Instance
    addresses: tuple[Address, ...]
    published: bool = False
    network: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """``left_out`` says of every other instance, in words, why."""

    chosen: tuple[Chosen, ...]
    left_out: tuple[tuple[Instance, str], ...]


def nowhere(_source: str, _view: View) -> tuple[Address, ...]:
    """Where hosts are reached when nothing is known of them."""
    return ()


def select(found: Found, view: View, policy: Policy, hosts: Hosts = nowhere) -> Selection:
    """Apply, in this order: reach (networks), life (state), fitness (health), address.

    ``hosts`` tells where an asker reaches the host of a source's engine (:meth:`Views.host_of`).
    """
    left_out: list[tuple[Instance, str]] = []
    near = _reachable(found.bindings, found.gone, view, policy, left_out)
    live = _live(near, left_out)
    fit = live if found.any_health else _fit(live, policy, left_out)
    chosen: list[Chosen] = []
    for binding in fit:
        choice = _addressed(binding, view, hosts)
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
    the same service that they share no network with. So do clients of a project whose ``db`` is
    on networks of its own.
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
        own = {(b.instance.service, b.instance.scope) for b in held if _is_own(b.instance, view)}
        own |= {(g.service, g.scope) for g in gone if _is_own(g, view)}
        # a network that is asked for by its whole name is meant, whoever is on it
        if not own or any(b.kind is Kind.NETWORK for b in held):
            return list(held)
        chosen = [b for b in held if (b.instance.service, b.instance.scope) in own]
        why = "it belongs to another scope than the asker's"
    ids = {id(b) for b in chosen}
    left_out.extend((b.instance, why) for b in held if id(b) not in ids)
    return chosen


def _is_own(what: Instance | Gone, view: View) -> bool:
    """Whether it is of the asker's project, or on one of its networks."""
    return bool(what.scope and what.scope == view.scope) or not view.networks.isdisjoint(what.network_ids)


def _network_ids(binding: Binding) -> frozenset[str]:
    ids = binding.instance.network_ids
    return ids & {binding.network_id} if binding.network_id else ids


def _live(held: list[Binding], left_out: list[tuple[Instance, str]]) -> list[Binding]:
    """Running ones; draining ones only where nothing else runs."""
    running = [b for b in held if b.instance.state is State.RUNNING]
    wanted = State.RUNNING if running else State.DRAINING
    left_out.extend((b.instance, f"it is {b.instance.state}") for b in held if b.instance.state is not wanted)
    return running or [b for b in held if b.instance.state is State.DRAINING]


def _fit(held: list[Binding], policy: Policy, left_out: list[tuple[Instance, str]]) -> list[Binding]:
    healthy = [b for b in held if b.instance.health is Health.HEALTHY]
    if not healthy and policy.fail_open:
        return held
    why = "" if healthy else ", and health.when_none is empty"
    unfit = (b.instance for b in held if b.instance.health is not Health.HEALTHY)
    left_out.extend((instance, f"it is {instance.health}{why}") for instance in unfit)
    return healthy


def _addressed(binding: Binding, view: View, hosts: Hosts) -> Chosen:
    instance = binding.instance
    if instance.on_host and (there := hosts(instance.source, view)):
        return Chosen(instance, _preferred(there))
    if binding.network_id:
        on = tuple(a for a in instance.addresses if a.network_id == binding.network_id)
        return Chosen(instance, on, network=(to_label(on[0].network) or "") if on else "")
    if view.place is Place.NETWORK:
        shared = tuple(a for a in instance.addresses if a.network_id in view.networks)
        if shared:
            return Chosen(instance, _preferred(shared))
    if _is_beyond(instance, view):
        if not any(p.published and p.published_beyond_host for p in instance.ports):
            return Chosen(instance, ())
        at = instance.host_address
        return Chosen(instance, (Address(at),) if at else (), published=True)
    if len(instance.addresses) == 1 and not instance.addresses[0].network_id:  # nothing to choose from
        return Chosen(instance, instance.addresses)
    led = tuple(a for a in instance.addresses if _leads_there(a, instance, view))
    free = tuple(a for a in led if not a.network_id)
    return Chosen(instance, free or _preferred(led))


def _is_beyond(instance: Instance, view: View) -> bool:
    """Whether the asker is not on the host of the instance's engine, and was told where that host is."""
    return instance.host_address is not None and (
        view.place is Place.ELSEWHERE or instance.source in view.away
    )


def _leads_there(address: Address, instance: Instance, view: View) -> bool:
    """False for a range of another host's engine that leads to containers of the asker's own host."""
    return not (
        address.network_id
        and instance.source in view.away
        and any(address.ip in subnet for subnet in view.taken)
    )


def _preferred(addresses: tuple[Address, ...]) -> tuple[Address, ...]:
    """Those on the first one's network, and the first of a family that it has none of there."""
    if len(addresses) == 1:
        return addresses
    chosen = [a for a in addresses if a.network_id == addresses[0].network_id]
    versions = {a.ip.version for a in chosen}
    for address in addresses:
        if address.ip.version not in versions:
            chosen.append(address)
            versions.add(address.ip.version)
    return tuple(chosen)


def _no_address(binding: Binding, view: View) -> str:
    if binding.network_id:
        return "it has no address on that network"
    if _is_beyond(binding.instance, view):
        return "it publishes no port that can be reached from beyond the host"
    if binding.instance.addresses:
        return "its address leads to other containers on the asker's host: its engine needs a host_address"
    return "it has no address"
