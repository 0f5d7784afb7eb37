"""What goes wrong with the parts: it begins, and is over some time later."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.chaos.world import World


@dataclass
class Fault:
    """One kind of fault. ``blinds``: kinds of names, or names of servers, that cannot be right meanwhile."""

    name: str
    part: str
    blinds: frozenset[str]
    begin: Callable[[], None]
    end: Callable[[], None]
    #: Seconds that it lasts, at most.
    most: float
    due: float = 0.0


def all_of(world: World, pick: Random) -> list[Fault]:
    """Every fault there is."""
    engine, consul, steady, victim = world.engine, world.consul, world.steady, world.victim

    def victim_back() -> None:
        victim.start()
        world.leases[victim.name].restarted(victim.killed_at)

    def kill_worker() -> None:
        with contextlib.suppress(OSError, ProcessLookupError):
            os.kill(pick.choice(victim.workers()), signal.SIGKILL)

    def nothing() -> None:
        """It mends itself."""

    docker, catalog = frozenset({"docker"}), frozenset({"consul"})
    return [
        Fault("the engine is killed", "engine", docker, engine.kill, engine.start, 4),
        Fault("the engine is told to stop", "engine", docker, engine.stop, engine.start, 2),
        Fault("the engine is frozen", "engine", docker, engine.freeze, engine.thaw, 8),
        Fault("Consul's agent is killed", "consul", catalog, consul.kill, consul.start, 6),
        Fault("Consul's agent is frozen", "consul", catalog, consul.freeze, consul.thaw, 8),
        Fault("the server is killed", "victim", frozenset({victim.name}), victim.kill, victim_back, 3),
        Fault("a worker is killed", "victim", frozenset(), kill_worker, nothing, 1),
        Fault(
            "the steady server is frozen", "steady", frozenset({steady.name}), steady.freeze, steady.thaw, 5
        ),
    ]


class Faults:
    """Those that are there now; one a part."""

    def __init__(self, world: World, pick: Random) -> None:
        self._world, self._pick = world, pick
        self._all = all_of(world, pick)
        self.active: list[Fault] = []
        self.count = 0

    def choose(self) -> Fault | None:
        """One that may begin now."""
        busy = {fault.part for fault in self.active}
        free = [fault for fault in self._all if fault.part not in busy]
        return self._pick.choice(free) if free and len(self.active) < 2 else None

    def begin(self, fault: Fault) -> None:
        self._world.blind |= fault.blinds
        fault.begin()
        self.count += 1
        fault.due = time.monotonic() + self._pick.uniform(0, fault.most)
        self.active.append(fault)

    def end_due(self, *, all_of_them: bool = False) -> list[str]:
        """End what has lasted long enough; says what."""
        over = [f for f in self.active if all_of_them or f.due <= time.monotonic()]
        for fault in over:
            fault.end()
            self.active.remove(fault)
            self._world.blind -= fault.blinds
        return [fault.name for fault in over]
