"""Names to the instances that answer to them, with the names between (RFC 4592, RFC 8020).

Keys are relative names (see :mod:`discoverd.naming`). A name that lost its last instance is
remembered for a while: denying it would put a wrong NXDOMAIN into caches, and its clients
must not fall over to another project's service of the same name.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from discoverd.naming import PRECEDENCE, Binding, Kind, ancestors, bindings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from discoverd.model import Instance

#: How long a name outlives its last instance, in seconds ("the last minutes" of docs/names.md).
GONE_SECONDS = 300.0
#: How many such names are kept; the oldest go first. Some 300 bytes each.
GONE_MOST = 20_000


@dataclass(frozen=True, slots=True)
class Gone:
    """What an instance that no longer exists was."""

    service: str
    scope: str
    network_ids: frozenset[str]

    @classmethod
    def of(cls, instance: Instance) -> Gone:
        return cls(instance.service, instance.scope, instance.network_ids)


@dataclass(frozen=True, slots=True)
class Found:
    """What a name leads to.

    ``depends`` are the names whose change would change this; ``any_health`` is set for ``all.``
    names. No bindings and ``exists``: an empty non-terminal, or a name gone a moment ago
    (``gone`` says what it was). ``wildcard``: the name itself does not exist, one covers it.
    """

    bindings: tuple[Binding, ...]
    exists: bool
    depends: tuple[str, ...]
    any_health: bool = False
    gone: tuple[Gone, ...] = ()
    wildcard: bool = False


class NameIndex:
    """The names of all instances of all sources."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._bound: dict[str, tuple[Binding, ...]] = {}
        self._below: dict[str, int] = {}
        self._gone: dict[str, dict[Gone, float]] = {}
        #: How many wildcards there are: with none, a name that is not here is nothing.
        self.wildcards = 0

    def __contains__(self, name: str) -> bool:
        """Whether a name exists: it, or any name below it, has data (or had it a moment ago)."""
        return name in self._bound or name in self._below or name in self._gone

    def __len__(self) -> int:
        return len(self._bound)

    def bound(self) -> Iterable[str]:
        return self._bound.keys()

    def at(self, name: str) -> tuple[Binding, ...]:
        """The bindings of exactly this name, those that go first only."""
        held = self._bound.get(name, ())
        if len(held) > 1:
            first = min(PRECEDENCE.get(b.kind, 1) for b in held)
            held = tuple(b for b in held if PRECEDENCE.get(b.kind, 1) == first)
        return held

    def find(self, name: str) -> Found:
        """What answers to a name: itself, ``all.`` of a service, or the wildcard that covers it."""
        held = self.at(name)
        if held:
            return Found(held, exists=True, depends=(name,), gone=self._lately(name))
        if name.startswith("all."):
            found = self._all_of(name)
            if found is not None:
                return found
        if name in self:
            return Found((), exists=True, depends=(name,), gone=self._lately(name))
        return self._covered(name)

    def _all_of(self, name: str) -> Found | None:
        service = name[len("all.") :]
        held = tuple(b for b in self.at(service) if b.kind in (Kind.SERVICE, Kind.SCOPED))
        gone = self._lately(service)
        if not held and not gone:
            return None
        return Found(held, exists=True, depends=(name, service), any_health=True, gone=gone)

    def _covered(self, name: str) -> Found:
        """Walk up to the closest encloser and ask for its wildcard (RFC 4592 section 3.3.1)."""
        depends = [name]
        for above in (*ancestors(name), ""):
            wildcard = f"*.{above}" if above else "*"
            if above == "" or above in self:
                depends.append(wildcard)
                held = self.at(wildcard)
                return Found(held, exists=bool(held), depends=tuple(depends), wildcard=True)
            depends.append(above)
        raise AssertionError  # the apex encloses every name

    def _lately(self, name: str) -> tuple[Gone, ...]:
        held = self._gone.get(name)
        return tuple(held) if held else ()

    # -- writing ------------------------------------------------------------------------

    def swap(
        self,
        out: Iterable[Instance],
        into: Iterable[Instance],
        gone: Mapping[tuple[str, str], Gone],
    ) -> set[str]:
        """Take instances out and put others in; returns the names whose answers may differ now.

        ``gone`` holds those of ``out`` that do not come back, by (source, id).
        """
        leaving: dict[str, list[Binding]] = defaultdict(list)
        coming: dict[str, list[Binding]] = defaultdict(list)
        for instance in out:
            for name, binding in bindings(instance).items():
                leaving[name].append(binding)
        for instance in into:
            for name, binding in bindings(instance).items():
                coming[name].append(binding)
        touched: set[str] = set()
        for name in leaving.keys() | coming.keys():
            touched.add(name)
            touched |= self._rebind(name, leaving.get(name, ()), coming.get(name, ()))
            for binding in leaving.get(name, ()):
                was = gone.get((binding.instance.source, binding.instance.id))
                if was is not None:
                    self._remember(name, was)
        return touched

    def _rebind(self, name: str, leaving: Iterable[Binding], coming: Iterable[Binding]) -> set[str]:
        old = self._bound.get(name, ())
        ids = {(b.instance.source, b.instance.id) for b in leaving}
        new = [b for b in old if (b.instance.source, b.instance.id) not in ids]
        new.extend(coming)
        if new:
            new.sort(key=_order)
            self._bound[name] = tuple(new)
        else:
            self._bound.pop(name, None)
        if bool(old) == bool(new):
            return set()
        step = 1 if new else -1
        self.wildcards += step * name.startswith("*")
        above = list(ancestors(name))
        for each in above:
            count = self._below.get(each, 0) + step
            if count:
                self._below[each] = count
            else:
                self._below.pop(each, None)
        return set(above)

    def _remember(self, name: str, was: Gone) -> None:
        if name not in self._gone and len(self._gone) >= GONE_MOST:
            self._gone.pop(next(iter(self._gone)))
        self._gone.setdefault(name, {})[was] = self._clock() + GONE_SECONDS

    def expire(self) -> list[str]:
        """Forget what has been gone for long enough; returns the names it was known by."""
        now = self._clock()
        names = [n for n, held in self._gone.items() if any(t <= now for t in held.values())]
        for name in names:
            left = {g: t for g, t in self._gone[name].items() if t > now}
            if left:
                self._gone[name] = left
            else:
                del self._gone[name]
        return names


def _order(binding: Binding) -> tuple[str, int, str]:
    """A stable order, so that rotation does not jump when an unrelated instance changes."""
    instance = binding.instance
    return instance.scope, instance.replica or 0, instance.id
