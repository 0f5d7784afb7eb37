"""Names to the instances that answer to them, with the names between (RFC 4592, RFC 8020).

Keys are relative names (see :mod:`discoverd.naming`). A name that lost its last instance is
remembered for a while: denying it would put a wrong NXDOMAIN into caches, and its clients
must not fall over to another project's service of the same name.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from discoverd.naming import PRECEDENCE, Above, Binding, Kind, ancestors, bindings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from discoverd.model import Instance

T = TypeVar("T")

#: How long a name outlives its last instance, in seconds ("the last minutes" of docs/names.md).
GONE_SECONDS = 300.0
#: First labels of names that are not held, but made of what is behind them.
MADE_OF: Final = frozenset({"all", "_tcp", "_udp"})
#: How many names that were somebody's are kept; the oldest go first. Some 500 bytes each.
GONE_MOST = 20_000


@dataclass(frozen=True, slots=True)
class Gone:
    """What an instance was that no longer answers to a name."""

    service: str
    scope: str
    network_ids: frozenset[str]
    kind: Kind

    @classmethod
    def of(cls, binding: Binding) -> Gone:
        instance = binding.instance
        return cls(instance.service, instance.scope, instance.network_ids, binding.kind)


@dataclass(frozen=True, slots=True)
class Found:
    """What a name leads to.

    ``depends`` are the names whose change would change this; ``any_health`` is set for ``all.``
    names. No bindings and ``exists``: an empty non-terminal, or a name gone a moment ago
    (``gone`` says what it was).
    """

    bindings: tuple[Binding, ...]
    exists: bool
    depends: tuple[str, ...]
    any_health: bool = False
    gone: tuple[Gone, ...] = ()


class NameIndex:
    """The names of all instances of all sources."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._bound: dict[str, tuple[Binding, ...]] = {}
        self._above = Above()
        self._lately = Lately(clock)
        #: What the names that exist are the keys of, for who asks too often for ``in``. Never replaced.
        self.known: tuple[Mapping[str, object], ...] = (
            self._bound,
            self._above.names,
            *self._lately.names,
        )
        #: How many wildcards there are: with none, a name that is not here is nothing.
        self.wildcards = 0

    def __contains__(self, name: str) -> bool:
        """Whether a name exists: it, or any name below it, has data (or had it a moment ago)."""
        return name in self._bound or name in self._above or name in self._lately

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

    def gone(self, name: str) -> tuple[Gone, ...]:
        """Who answered to exactly this name a moment ago."""
        return self._lately.at(name)

    def find(self, name: str) -> Found:
        """What answers to a name: itself, ``all.`` of a service, or the wildcard that covers it."""
        held = self.at(name)
        service = name.removeprefix("all.") if name.startswith("all.") else ""
        if service and (not held or held[0].kind is Kind.TAG):  # a tag "all" gives way
            # of a Swarm service with a virtual IP, its members are its tasks
            tasks = tuple(b for b in self.at(f"tasks.{service}") if b.kind is Kind.TASKS)
            members = tasks or tuple(b for b in self.at(service) if b.kind in (Kind.SERVICE, Kind.SCOPED))
            gone = self.gone(service)
            if members or gone:
                names = (name, service, f"tasks.{service}")
                return Found(members, exists=True, depends=names, any_health=True, gone=gone)
        depends = (name, service) if service else (name,)
        if held:
            return Found(held, exists=True, depends=depends, gone=self.gone(name))
        if name in self._above:
            return Found((), exists=True, depends=depends, gone=self.gone(name))
        return self._covered(name, depends)

    def _covered(self, name: str, depends: tuple[str, ...]) -> Found:
        """Walk up to the closest encloser and ask for its wildcard (RFC 4592 section 3.3.1).

        Names that are gone enclose nothing, so that a wildcard can take over at once.
        """
        for above in ancestors(name):
            depends = (*depends, above)
            if above in self._bound or above in self._above:
                break
            label, _, base = above.partition(".")
            if label in MADE_OF:
                depends = (*depends, base, f"tasks.{base}")
                if self._is_made(label, base):
                    break
        else:
            above = ""
        wildcard = f"*.{above}" if above else "*"
        held, gone = self.at(wildcard), self.gone(name)
        exists = bool(held) or name in self._lately
        return Found(held, exists, (*depends, wildcard), gone=gone)

    def _is_made(self, label: str, base: str) -> bool:
        """Whether ``all.<base>``, ``_tcp.<base>`` or ``_udp.<base>`` exists, made of ``base``."""
        if label == "all":
            return any(b.kind in (Kind.SERVICE, Kind.SCOPED) for b in self.at(base)) or any(
                b.kind is Kind.TASKS for b in self.at(f"tasks.{base}")
            )
        return any(p.protocol == label[1:] for b in self.at(base) for p in b.instance.ports)

    # -- writing ------------------------------------------------------------------------

    def swap(self, out: Iterable[Instance], into: Iterable[Instance], *, remember: bool = True) -> set[str]:
        """Take instances out and put others in; returns the names whose answers may differ now.

        Without ``remember`` it is as if those had never been there.
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
            lost, won = leaving.get(name, ()), coming.get(name, ())
            touched.add(name)
            touched |= self._rebind(name, lost, won)
            stay = {_who(binding) for binding in won}
            for binding in lost:
                if remember and _who(binding) not in stay:
                    touched |= self._lately.remember(name, Gone.of(binding))
        return touched

    def _rebind(self, name: str, leaving: Sequence[Binding], coming: Sequence[Binding]) -> set[str]:
        old = self._bound.get(name, ())
        new = merged(old, leaving, coming, _order)
        if new:
            self._bound[name] = new
        else:
            self._bound.pop(name, None)
        if bool(old) == bool(new):
            return set()
        self.wildcards += (1 if new else -1) * name.startswith("*")
        return self._above.add(name) if new else self._above.remove(name)

    def expire(self) -> set[str]:
        """Forget what has been gone for long enough; returns the names whose answers may differ now."""
        return self._lately.expire()

    @property
    def lately(self) -> Iterable[str]:
        """The names that somebody answered to a moment ago."""
        return self._lately.remembered()

    def set_gone(self, name: str, gone: Sequence[Gone]) -> set[str]:
        """Remember these and no others of a name; returns the names whose answers may differ now."""
        return self._lately.assign(name, gone)


class Lately:
    """The names that instances answered to a moment ago. Every call that changes it says which
    names came or went.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: OrderedDict[tuple[str, Gone], float] = OrderedDict()  # soonest first
        self._at: dict[str, tuple[Gone, ...]] = {}
        self._above = Above()
        self.names = (self._at, self._above.names)

    def __contains__(self, name: str) -> bool:
        return name in self._at or name in self._above

    def at(self, name: str) -> tuple[Gone, ...]:
        return self._at.get(name, ())

    def remembered(self) -> Iterable[str]:
        return self._at.keys()

    def remember(self, name: str, was: Gone) -> set[str]:
        touched = {name}
        key = (name, was)
        if key not in self._until:
            if name not in self._at:
                touched |= self._above.add(name)
            self._at[name] = (*self._at.get(name, ()), was)
        self._until[key] = self._clock() + GONE_SECONDS
        self._until.move_to_end(key)
        if len(self._until) > GONE_MOST:
            touched |= self._forget()
        return touched

    def assign(self, name: str, gone: Sequence[Gone]) -> set[str]:
        touched: set[str] = set()
        known = set(self.at(name))
        for was in gone:
            if was not in known:
                touched |= self.remember(name, was)
        for was in known - set(gone):
            touched |= self._drop(name, was)
        return touched

    def expire(self) -> set[str]:
        now = self._clock()
        touched: set[str] = set()
        while self._until and next(iter(self._until.values())) <= now:
            touched |= self._forget()
        return touched

    def _forget(self) -> set[str]:
        return self._drop(*next(iter(self._until)))

    def _drop(self, name: str, was: Gone) -> set[str]:
        del self._until[name, was]
        left = tuple(g for g in self._at[name] if g != was)
        if left:
            self._at[name] = left
            return {name}
        del self._at[name]
        return {name, *self._above.remove(name)}


def merged(
    old: tuple[T, ...], leaving: Sequence[T], coming: Sequence[T], order: Callable[[T], tuple[Any, ...]]
) -> tuple[T, ...]:
    """A tuple in ``order`` without some of its items and with others.

    One item in a hundred thousand is found by bisection; many at once are sorted in.
    """
    if not old:
        return tuple(sorted(coming, key=order))
    if not coming and tuple(leaving) == old:
        return ()
    if len(leaving) == len(coming) == 1 and order(leaving[0]) == (place := order(coming[0])):
        # one that changed, and stays where it was: most changes are that
        at = old.index(leaving[0], bisect_left(old, place, key=order))
        return (*old[:at], coming[0], *old[at + 1 :])
    if 8 * (len(leaving) + len(coming)) < len(old):
        new = list(old)
        for item in leaving:
            del new[new.index(item, bisect_left(new, order(item), key=order))]
        for item in coming:
            insort(new, item, key=order)
        return tuple(new)
    left: dict[tuple[Any, ...], list[T]] = defaultdict(list)
    for item in leaving:
        left[order(item)].append(item)
    kept: list[T] = []
    for item in old:
        same = left.get(order(item), ())
        if item in same:
            left[order(item)].remove(item)
        else:
            kept.append(item)
    return tuple(sorted((*kept, *coming), key=order))


def _who(binding: Binding) -> tuple[str, str]:
    return binding.instance.source, binding.instance.id


def _order(binding: Binding) -> tuple[str, int, str, str]:
    """A stable order, so that rotation does not jump when an unrelated instance changes."""
    instance = binding.instance
    return instance.scope, instance.replica or 0, instance.source, instance.id
