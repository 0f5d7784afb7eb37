"""What every source last said, indexed by DNS name and by address.

Synchronous and used on the event loop only. Values are immutable: a reader may keep what it
was given. Every change is told to subscribers with just the names and addresses it touched.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from discoverd import naming
from discoverd.model import Instance, IPAddress, Network, SourceState, SourceStatus
from discoverd.nameindex import NameIndex, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from discoverd.nameindex import Gone

log = logging.getLogger("discoverd.registry")

#: A full sync that removes more than half of at least this many instances is worth a loud line.
MASS_REMOVAL_FLOOR = 20


@dataclass(frozen=True, slots=True)
class Change:
    """What one publication changed: whose answers are no longer right, and which instances."""

    names: frozenset[str]
    addresses: frozenset[IPAddress]
    added: tuple[Instance, ...] = ()
    removed: tuple[Instance, ...] = ()
    #: (before, after) of instances that stayed but differ.
    updated: tuple[tuple[Instance, Instance], ...] = ()
    #: True where everything derived from the registry must go: networks or a source's state changed.
    everything: bool = False
    #: Whose objects they were, by key; "" where it is not about objects.
    source: str = ""
    keys: frozenset[str] = frozenset()


class Registry:
    """All instances of all sources. One source can neither see nor erase another's."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.names = NameIndex(clock)
        #: Grows with every change; the SOA serial (RFC 1035 section 3.3.13).
        self.serial = int(time.time())
        self.mass_removals = 0
        self._objects: dict[str, dict[str, tuple[Instance, ...]]] = {}
        self._addresses: dict[IPAddress, tuple[Instance, ...]] = {}
        self._networks: dict[str, tuple[Network, ...]] = {}
        self._statuses: dict[str, SourceStatus] = {}
        self._writers: dict[str, Writer] = {}
        self._subscribers: list[Callable[[Change], None]] = []
        #: Sources that are out of reach, and those that have not yet been in step in this process.
        self.stale: frozenset[str] = frozenset()
        self.syncing: frozenset[str] = frozenset()

    # -- writing ------------------------------------------------------------------------

    def writer(self, name: str, kind: str) -> Writer:
        """Make a source known (state SYNCING) and give it its own way in; an earlier one is closed."""
        self._close(name)
        self._objects.setdefault(name, {})
        self._writers[name] = writer = Writer(self, name)
        self.set_status(SourceStatus(name, kind))
        return writer

    def forget(self, source: str) -> None:
        """Drop a source and all that it said: it is no longer configured."""
        self._close(source)
        self._replace(source, {}, dict(self._objects.get(source, {})))
        self._objects.pop(source, None)
        self._statuses.pop(source, None)
        self._networks.pop(source, None)
        self._note_states()
        self._tell(Change(frozenset(), frozenset(), everything=True))

    def write(self, source: str, objects: Mapping[str, Iterable[Instance]], *, full: bool) -> None:
        """Replace what a source said of these objects; with ``full``, of all others too (gone)."""
        known = self._objects[source]
        old = dict(known) if full else {key: known[key] for key in objects if key in known}
        gone = self._replace(source, objects, old)
        if full:
            self._warn_of_mass_removal(source, sum(map(len, old.values())), gone)

    def unsay(self, source: str) -> None:
        """Take back all instances of a source as if they had never been: nothing is known of them."""
        instances = [i for group in self._objects[source].values() for i in group]
        keys = frozenset(self._objects[source])
        self._objects[source] = {}
        if instances:
            self._apply(source, keys, [], instances, [], remember=False)

    def set_networks(self, source: str, networks: Iterable[Network]) -> None:
        new = tuple(networks)
        if self._networks.get(source, ()) != new:
            self._networks[source] = new
            self._tell(Change(frozenset(), frozenset(), everything=True))

    def set_status(self, status: SourceStatus) -> None:
        old = self._statuses.get(status.name)
        self._statuses[status.name] = status
        if old is None or (old.state, old.restored) != (status.state, status.restored):
            self._note_states()
            self._tell(Change(frozenset(), frozenset(), everything=True))

    def expire(self) -> None:
        """Forget names that have been gone for long enough; called about once a second."""
        self._tell_names(self.names.expire())

    def set_gone(self, name: str, gone: Sequence[Gone]) -> None:
        """Remember of a name what another registry remembers: who answered to it a moment ago."""
        self._tell_names(self.names.set_gone(name, gone))

    # -- reading ------------------------------------------------------------------------

    def at(self, address: IPAddress) -> tuple[Instance, ...]:
        """Instances that hold an address or ask from it, the one started last first."""
        return self._addresses.get(address, ())

    def instances(self) -> Iterator[Instance]:
        for objects in self._objects.values():
            for group in objects.values():
                yield from group

    def keys(self, source: str) -> Iterable[str]:
        """The objects of a source."""
        return self._objects.get(source, {}).keys()

    def group(self, source: str, key: str) -> tuple[Instance, ...]:
        """What is known of one object: nothing where it is gone, or never was."""
        return self._objects.get(source, {}).get(key, ())

    def networks(self, source: str | None = None) -> Iterator[Network]:
        """All container networks, or those that one source told."""
        known = self._networks.values() if source is None else (self._networks.get(source, ()),)
        for networks in known:
            yield from networks

    def networks_by_source(self) -> Mapping[str, tuple[Network, ...]]:
        return self._networks

    def statuses(self) -> tuple[SourceStatus, ...]:
        return tuple(self._statuses.values())

    def status(self, source: str) -> SourceStatus:
        return self._statuses[source]

    def count(self, source: str) -> int:
        return sum(len(group) for group in self._objects.get(source, {}).values())

    def said(self, source: str) -> tuple[dict[str, tuple[Instance, ...]], tuple[Network, ...]]:
        """The objects and networks of one source, as they are now."""
        return dict(self._objects.get(source, {})), self._networks.get(source, ())

    def subscribe(self, subscriber: Callable[[Change], None]) -> Callable[[], None]:
        """Be told of every change, synchronously; returns the way to stop it."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    # -- inside -------------------------------------------------------------------------

    def _replace(
        self, source: str, objects: Mapping[str, Iterable[Instance]], old: dict[str, tuple[Instance, ...]]
    ) -> int:
        """Put objects in the place of ``old`` ones; returns how many instances are gone."""
        said = {key: tuple(instances) for key, instances in objects.items()}  # all of them, or none
        known = self._objects.get(source, {})
        added: list[Instance] = []
        removed: list[Instance] = []
        updated: list[tuple[Instance, Instance]] = []
        keys = set(old.keys() - said.keys())  # of objects that differ
        for key in keys:
            removed += known.pop(key)
        for key, instances in said.items():
            before = {i.id: i for i in old.get(key, ())}
            after: dict[str, Instance] = {}
            for instance in instances:
                # what has not changed stays the value that it was, so that there is one of it
                was = before.get(instance.id)
                after[instance.id] = was if was is not None and was == instance else instance
            before_it = len(added) + len(updated)
            for name, new in after.items():
                was = before.pop(name, None)
                if was is None:
                    added.append(new)
                elif was is not new:
                    updated.append((was, new))
            removed += before.values()
            if before or len(added) + len(updated) > before_it:
                keys.add(key)
            if after:
                known[key] = tuple(after.values())
            else:
                known.pop(key, None)
        if keys:
            self._apply(source, frozenset(keys), added, removed, updated)
        return len(removed)

    def _apply(
        self,
        source: str,
        keys: frozenset[str],
        added: list[Instance],
        removed: list[Instance],
        updated: list[tuple[Instance, Instance]],
        *,
        remember: bool = True,
    ) -> None:
        out = removed + [was for was, _ in updated]
        into = added + [new for _, new in updated]
        touched = frozenset(self.names.swap(out, into, remember=remember))
        addresses = self._swap_addresses(out, into)
        which = tuple(added), tuple(removed), tuple(updated)
        self._tell(Change(touched, addresses, *which, source=source, keys=keys))

    def _swap_addresses(self, out: list[Instance], into: list[Instance]) -> frozenset[IPAddress]:
        # every look into one of these costs an address's hash, which is Python and takes 0.5 µs
        leaving: dict[IPAddress, list[Instance]] = {}
        coming: dict[IPAddress, list[Instance]] = {}
        for instances, by_address in ((out, leaving), (into, coming)):
            for instance in instances:
                ips = [*[a.ip for a in instance.addresses], *instance.asks_from]
                for ip in dict.fromkeys(ips) if len(ips) > 1 else ips:
                    by_address.setdefault(ip, []).append(instance)
        for ip, lost in leaving.items():
            self._hold(ip, lost, coming.pop(ip, ()))
        for ip, won in coming.items():
            self._hold(ip, (), won)
        return frozenset((*leaving, *coming))

    def _hold(self, ip: IPAddress, lost: Sequence[Instance], won: Sequence[Instance]) -> None:
        holders = merged(self.at(ip), lost, won, _newest_first)
        if holders:
            self._addresses[ip] = holders
        else:
            del self._addresses[ip]

    def _tell_names(self, names: set[str]) -> None:
        if names:
            self._tell(Change(frozenset(names), frozenset()))

    def _close(self, source: str) -> None:
        writer = self._writers.pop(source, None)
        if writer is not None:
            writer.close()

    def _note_states(self) -> None:
        self.stale = frozenset(s.name for s in self._statuses.values() if s.state is SourceState.STALE)
        self.syncing = frozenset(
            s.name for s in self._statuses.values() if s.state is SourceState.SYNCING or s.restored
        )

    def _warn_of_mass_removal(self, source: str, before: int, removed: int) -> None:
        if before >= MASS_REMOVAL_FLOOR and removed * 2 > before:
            self.mass_removals += 1
            log.warning("%s: one refresh removes %d of %d instances at once", source, removed, before)

    def _tell(self, change: Change) -> None:
        self.serial = max(self.serial + 1, int(time.time()))
        self._announce(change)

    def go_by(self, serial: int) -> None:
        """Have a serial that was counted elsewhere: by another process, or by one before this."""
        if serial != self.serial:
            self.serial = serial
            self._announce(Change(frozenset(), frozenset()))

    def _announce(self, change: Change) -> None:
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(change)
            except Exception:
                # the others must hear of it all the same, or they go on with what is no longer true
                log.exception("a change was not taken in by %s", subscriber)


class Writer:
    """One source's way into the registry (a :class:`discoverd.sources.base.Sink`).

    Once it is closed, what its source says goes nowhere: a task that is being cancelled may still speak.
    """

    def __init__(self, registry: Registry, name: str) -> None:
        self._registry, self._name, self._open = registry, name, True

    def close(self) -> None:
        self._open = False

    def publish(self, key: str, instances: Iterable[Instance]) -> None:
        if self._open:
            self._registry.write(self._name, {key: instances}, full=False)

    def replace(self, objects: Mapping[str, Iterable[Instance]]) -> None:
        if self._open:
            self._registry.write(self._name, objects, full=True)

    def networks(self, networks: Iterable[Network]) -> None:
        if self._open:
            self._registry.set_networks(self._name, networks)

    def status(self, state: SourceState, error: str | None = None, **detail: int | str) -> None:
        if not self._open:
            return
        old = self._registry.status(self._name)
        restored = old.restored and state is not SourceState.LIVE
        self._registry.set_status(
            replace(
                old,
                state=SourceState.STALE if restored else state,
                restored=restored,
                last_sync=time.time() if state is SourceState.LIVE else old.last_sync,
                last_error=error if error is not None else old.last_error,
                detail={**old.detail, **detail},
            )
        )

    def restore(
        self, objects: Mapping[str, Iterable[Instance]], networks: Iterable[Network], as_of: float
    ) -> None:
        """Begin with what the source said in an earlier process, in step until the Unix time ``as_of``."""
        self.networks(networks)
        self.replace(objects)
        if self._open:
            old = self._registry.status(self._name)
            self._registry.set_status(replace(old, state=SourceState.STALE, last_sync=as_of, restored=True))

    def give_up(self) -> bool:
        """Forget what was restored, if it was not replaced meanwhile; whether it was there still."""
        old = self._registry.status(self._name) if self._open else None
        if old is None or not old.restored:
            return False
        self._registry.set_status(replace(old, state=SourceState.SYNCING, restored=False))
        self._registry.unsay(self._name)
        self.networks(())
        return True


def _newest_first(instance: Instance) -> tuple[float, str, str]:
    return -instance.started_at, instance.source, instance.id


def names_of(instance: Instance) -> tuple[str, ...]:
    """The relative names an instance answers to, for showing."""
    return tuple(naming.bindings(instance))
