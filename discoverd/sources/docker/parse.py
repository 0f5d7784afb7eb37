"""One container's inspect -> instances. Pure: what needs telling is returned as notes.

https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerInspect
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from discoverd.model import Address, Check, Health, Instance, Port, State
from discoverd.naming import to_label
from discoverd.sources.docker.drain import grace_of, stop_signal_of
from discoverd.sources.docker.identity import Identity
from discoverd.sources.docker.networks import Ground, NetworkMap, parse_ground, parse_links, split_port
from discoverd.sources.docker.notes import Notes
from discoverd.sources.docker.shape import part, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoverd.sources.docker.settings import DockerSettings
    from discoverd.sources.docker.shape import Json

_JOINS = "container:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """All that is kept of one container."""

    id: str
    name: str
    instances: tuple[Instance, ...] = ()
    notes: tuple[str, ...] = ()
    running: bool = False
    started_at: float = 0.0
    ground: Ground = field(default_factory=Ground)
    #: The container whose network stack it uses (an id, or a name), or "".
    joins: str = ""
    #: The Swarm service that it is a task of, by id, or "".
    service: str = ""
    #: True where it is on a network that is not known (yet).
    unresolved: bool = False
    stop_signal: int = 15
    #: Seconds that it is given between its stop signal and SIGKILL.
    grace: float = 10.0


@dataclass(frozen=True, slots=True)
class Run:
    """Where in its life a container is."""

    state: State
    #: Whether its processes run, so that its addresses are its own.
    running: bool
    #: Unix seconds; 0 for never.
    started_at: float


def container_id(doc: Json) -> str:
    """The full id. Raises ValueError for what is no inspect of a container at all."""
    if not (found := text(doc, "Id")) or not part(doc, "State") or not part(doc, "Config"):
        raise ValueError("expected the inspect of a container: an object with Id, State and Config")
    return found


def joined(doc: Json) -> str:
    """Whose network stack a container uses (``--network container:x``): an id, rarely a name, or ""."""
    mode = text(part(doc, "HostConfig"), "NetworkMode")
    return mode.removeprefix(_JOINS) if mode.startswith(_JOINS) else ""


def parse_container(
    doc: Json, settings: DockerSettings, networks: NetworkMap, host: Container | None = None
) -> Container:
    """Read one inspect; ``host`` is the container that it joins, where that is known.

    Raises ValueError for what is no inspect at all; parts that are missing or misshapen count as empty.
    """
    notes = Notes()
    who = Identity(doc, container_id(doc), notes)
    run = parse_run(part(doc, "State"))
    joins = joined(doc)
    ground = _joined_ground(run, host) if joins else _own_ground(doc, who, run, settings, networks)
    asked = who.wishes.enabled
    wanted = bool(who.service) and (not settings.only_enabled if asked is None else asked)
    config, endpoints = part(doc, "Config"), part(doc, "NetworkSettings", "Networks")
    return Container(
        id=who.id,
        name=who.name,
        instances=tuple(_instances(doc, who, run, ground, settings)) if wanted else (),
        notes=notes.lines if wanted or not who.service else (),
        running=run.running,
        started_at=run.started_at,
        ground=ground,
        joins=joins,
        unresolved=not all(networks.knows(text(part(endpoints, n), "NetworkID") or n) for n in endpoints),
        stop_signal=stop_signal_of(text(config, "StopSignal")),
        grace=grace_of(config.get("StopTimeout")),
    )


def stopped(container: Container) -> Container:
    """The same container after its end, as far as that can be told without asking."""
    return replace(
        container,
        running=False,
        ground=replace(container.ground, addresses=(), published={}),
        instances=tuple(
            replace(i, state=State.STOPPED, addresses=(), asks_from=()) for i in container.instances
        ),
    )


def _joined_ground(run: Run, host: Container | None) -> Ground:
    """Another container's network stack: the one that it had when this one started, none of a later start."""
    if host is None:
        return Ground()
    alive = run.running and host.running and host.started_at <= run.started_at
    return Ground(
        memberships=tuple(replace(m, aliases=()) for m in host.ground.memberships),
        addresses=host.ground.addresses if alive else (),
        published=host.ground.published,
        on_host=host.ground.on_host and alive,
    )


def _own_ground(doc: Json, who: Identity, run: Run, settings: DockerSettings, networks: NetworkMap) -> Ground:
    if text(part(doc, "HostConfig"), "NetworkMode") == "host":
        here = settings.host_address
        return Ground(addresses=(Address(here),) if here and run.running else (), on_host=True)
    preferred = [f"{who.project}_default", "default"] if who.project else []
    wished = who.wishes.network  # as the engine calls it, or as the project's file does
    if wished:
        preferred = [wished, f"{who.project}_{wished}", *preferred]
    ground = parse_ground(
        doc,
        networks,
        settings.name,
        running=run.running,
        project=who.project,
        preferred=preferred,
        make=who.notes.name,
        plain=who.plain,
    )
    if wished and not any({m.network, m.short} & set(preferred[:2]) for m in ground.memberships):
        who.notes.add(f"label discoverd.network is {wished!r}: expected one of its networks; ignored")
    return ground


def _instances(
    doc: Json, who: Identity, run: Run, ground: Ground, settings: DockerSettings
) -> Iterator[Instance]:
    main = Instance(
        id=who.id,
        service=who.service,
        source=f"docker/{settings.name}",
        scope=who.scope,
        state=run.state,
        health=_health(part(doc, "State", "Health")),
        check=_check(doc, who),
        addresses=ground.addresses,
        ports=tuple(_ports(doc, who, ground)),
        tags=who.wishes.tags,
        meta=who.wishes.meta,
        weight=who.wishes.weight,
        ttl=who.wishes.ttl,
        replica=who.replica,
        in_service=not who.one_off,
        own_names=who.own_names,
        unique=who.short,
        hostname=who.hostname,
        extra_names=who.extra_names(settings),
        memberships=ground.memberships,
        links=parse_links(doc, who.notes.name),
        on_host=ground.on_host and run.running,
        host_address=settings.host_address,
        started_at=run.started_at,
    )
    yield main
    for service, ports in who.further_services().items():
        yield replace(
            main,
            id=f"{who.id}/{service}",
            service=service,
            ports=tuple(p for p in main.ports if not ports or p.port in ports),
            unique=to_label(f"{who.short}-{service}") or who.short,
            # names and links are the main instance's: nobody is to be counted twice
            own_names=(),
            hostname="",
            extra_names=(),
            memberships=tuple(replace(m, aliases=()) for m in main.memberships),
            links=(),
        )


def _ports(doc: Json, who: Identity, ground: Ground) -> Iterator[Port]:
    """Ports given by label in their order, then exposed and published ones by number."""
    keys = (*part(doc, "Config", "ExposedPorts"), *part(doc, "NetworkSettings", "Ports"))
    listed = {found for key in keys if (found := split_port(key))}
    names = {(p.port, p.protocol): p.name for p in reversed(who.wishes.ports)}
    given = dict.fromkeys((p.port, p.protocol) for p in who.wishes.ports)
    on_host = text(part(doc, "HostConfig"), "NetworkMode") == "host"  # its ports are the host's own
    for number, protocol in (*given, *sorted(listed - names.keys())):
        published, beyond = ground.published.get((number, protocol), (number if on_host else None, True))
        yield Port(number, protocol, names.get((number, protocol), ""), published, beyond)


def parse_run(state: Json) -> Run:
    """Read an inspect's State; ``Running`` is true of paused and of restarting containers too."""
    try:
        started = max(0.0, datetime.fromisoformat(text(state, "StartedAt")).timestamp())
    except (ValueError, OverflowError):
        started = 0.0
    if state.get("Dead") is True or text(state, "Status") in {"removing", "dead"}:
        return Run(State.STOPPED, running=False, started_at=started)
    if state.get("Restarting") is True:
        return Run(State.RESTARTING, running=False, started_at=started)
    running = state.get("Running") is True
    if state.get("Paused") is True:
        return Run(State.PAUSED, running, started)
    return Run(State.RUNNING if running else State.STOPPED, running, started)


def _check(doc: Json, who: Identity) -> Check | None:
    """What the label asks for; the engine's own check goes before it."""
    own = text(part(doc, "State", "Health"), "Status") not in {"", "none"}
    if own and who.wishes.check:
        who.notes.add("label discoverd.check is not needed: it has a HEALTHCHECK, and that one counts")
    return None if own else who.wishes.check


def _health(health: Json) -> Health:
    known = {"starting": Health.STARTING, "unhealthy": Health.UNHEALTHY}
    return known.get(text(health, "Status"), Health.HEALTHY)
