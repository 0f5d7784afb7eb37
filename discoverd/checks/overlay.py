"""A sink in front of another: what goes through gets the health that discoverd's own checks found.

Each source has one of its own, so no source's words reach another's instances. Event loop only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from discoverd.model import Health, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from discoverd.model import Check, Instance, IPAddress, Network, SourceState
    from discoverd.sources.base import Sink


@dataclass(frozen=True, slots=True)
class Target:
    """What is probed. Another start, address or check is another target, of which nothing is known."""

    address: IPAddress
    check: Check
    started_at: float


class Watcher(Protocol):
    """What keeps looking at targets, and tells :meth:`Overlay.judged` of each change."""

    def watch(self, key: str, target: Target) -> None:
        """From now on, in place of what was watched under this key."""

    def drop(self, key: str) -> None:
        """No more."""


class Overlay:
    """Satisfies :class:`discoverd.sources.base.Sink`; ``watcher`` is to be given before anything is said."""

    watcher: Watcher

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._targets: dict[str, Target] = {}
        self._said: dict[str, tuple[Instance, ...]] = {}
        self._health: dict[str, Health] = {}

    @property
    def targets(self) -> Mapping[str, Target]:
        """What is to be probed, by object."""
        return self._targets

    def judged(self, key: str, target: Target, health: Health) -> None:
        """A target's health has changed; news of one that has been replaced since changes nothing."""
        if self._targets.get(key) == target and self._health.get(key) is not health:
            self._health[key] = health
            self._sink.publish(key, self._overlaid(key))

    # -- the sink's words -------------------------------------------------------------------

    def publish(self, key: str, instances: Iterable[Instance]) -> None:
        group = tuple(instances)
        self._note(key, group)
        self._sink.publish(key, self._overlaid(key) if key in self._said else group)

    def replace(self, objects: Mapping[str, Iterable[Instance]]) -> None:
        groups = {key: tuple(instances) for key, instances in objects.items()}
        for key in self._said.keys() - groups.keys():
            self._note(key, ())
        for key, group in groups.items():
            self._note(key, group)
        self._sink.replace({**groups, **{key: self._overlaid(key) for key in self._said}})

    def networks(self, networks: Iterable[Network]) -> None:
        self._sink.networks(networks)

    def status(self, state: SourceState, error: str | None = None, **detail: int | str) -> None:
        self._sink.status(state, error, **detail)

    # -- inside -----------------------------------------------------------------------------

    def _note(self, key: str, group: tuple[Instance, ...]) -> None:
        if any(instance.check for instance in group):
            self._said[key] = group
        else:
            self._said.pop(key, None)
        target = next((found for instance in group if (found := _target(instance))), None)
        if target == self._targets.get(key):
            return
        self._health.pop(key, None)
        if target is None:
            del self._targets[key]
            self.watcher.drop(key)
        else:
            self._targets[key] = target
            self.watcher.watch(key, target)

    def _overlaid(self, key: str) -> tuple[Instance, ...]:
        """With what the checks found; ``starting`` until they have found something."""
        health = self._health.get(key, Health.STARTING)
        watched = key in self._targets
        return tuple(replace(i, health=health) if watched and i.check else i for i in self._said[key])


def _target(instance: Instance) -> Target | None:
    """What of an instance there is to probe: nothing while it does not run, or is on its way out."""
    if instance.check is None or not instance.addresses:
        return None
    if instance.state not in (State.RUNNING, State.DRAINING):
        return None
    return Target(instance.addresses[0].ip, instance.check, instance.started_at)
