"""The main process's side of the copies: what has changed, and for each worker what it was not told yet.

Nothing is queued. What has changed is marked, and looked up when it is sent: a thousand changes of
one object while a worker is busy are one update, and no worker can fall behind by more than all there is.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from discoverd.workers.messages import Current, Outline, Update

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from discoverd.catalog import Catalog
    from discoverd.registry import Change, Registry

#: Things told in one update: some milliseconds of work for a worker that answers meanwhile.
AT_ONCE: Final = 50


class Mark(NamedTuple):
    """Something that has changed. ``kind``: object, gone, service, nodes, outline or current."""

    kind: str
    whose: str = ""
    key: str = ""


OUTLINE, CURRENT = Mark("outline"), Mark("current")


class Marks:
    """What is to be told, each once, in the order in which it was first marked."""

    def __init__(self) -> None:
        self._marks: dict[Mark, None] = {}

    def __len__(self) -> int:
        return len(self._marks)

    def add(self, *marks: Mark) -> None:
        for mark in marks:
            if mark.kind == "gone":  # to be told behind the object that has gone
                self._marks.pop(mark, None)
            self._marks[mark] = None

    def all(self) -> tuple[Mark, ...]:
        return tuple(self._marks)

    def take(self) -> tuple[Mark, ...]:
        """Some of them: what there is goes first, how current it is goes last."""
        marks = self._marks
        taken = [OUTLINE] if OUTLINE in marks else []
        taken += islice((m for m in marks if m is not OUTLINE and m is not CURRENT), AT_ONCE)
        for mark in taken:
            marks.pop(mark, None)
        if marks.keys() <= {CURRENT}:
            taken += marks
            marks.clear()
        return tuple(taken)


class Mirror:
    """Watches a registry and a catalog. ``wake`` is called with marks as they come."""

    def __init__(self, registry: Registry, catalog: Catalog, wake: Callable[..., None]) -> None:
        self._registry, self._catalog, self._wake = registry, catalog, wake
        registry.subscribe(self._changed)
        catalog.watch(self._catalog_changed)

    def everything(self) -> Iterator[Mark]:
        """Marks of all that there is, for who knows nothing yet."""
        yield OUTLINE
        for status in self._registry.statuses():
            yield from (Mark("object", status.name, key) for key in self._registry.keys(status.name))
        for datacenter, held in self._catalog.followed.items():
            yield Mark("nodes", datacenter)
            yield from (Mark("service", datacenter, name) for name in held.services)
        yield from (Mark("gone", key=name) for name in self._registry.names.lately)
        yield CURRENT

    def update(self, marks: tuple[Mark, ...]) -> Update:
        """What these marks stand for, as it is now."""
        by_kind: dict[str, list[Mark]] = {}
        for mark in marks:
            by_kind.setdefault(mark.kind, []).append(mark)
        registry, followed = self._registry, self._catalog.followed
        services = [(m, followed.get(m.whose)) for m in by_kind.get("service", ())]
        nodes = [(m, followed.get(m.whose)) for m in by_kind.get("nodes", ())]
        return Update(
            self._outline() if "outline" in by_kind else None,
            tuple((m.whose, m.key, registry.group(m.whose, m.key)) for m in by_kind.get("object", ())),
            gone=tuple((m.key, registry.names.gone(m.key)) for m in by_kind.get("gone", ())),
            services=tuple((m.whose, m.key, held.services.get(m.key, ())) for m, held in services if held),
            nodes=tuple((m.whose, held.nodes) for m, held in nodes if held),
            current=self._current() if "current" in by_kind else None,
        )

    def _outline(self) -> Outline:
        statuses = self._registry.statuses()
        return Outline(
            tuple((status.name, status.kind) for status in statuses),
            tuple((status.name, tuple(self._registry.networks(status.name))) for status in statuses),
            tuple(self._catalog.followed),
        )

    def _current(self) -> Current:
        catalog = self._catalog
        return Current(
            self._registry.serial,
            tuple((each.name, each.state, each.restored) for each in self._registry.statuses()),
            catalog.home,
            catalog.datacenters,
            frozenset(name for name, held in catalog.followed.items() if held.synced),
            frozenset(name for name, held in catalog.followed.items() if held.restored),
        )

    def _changed(self, change: Change) -> None:
        if change.everything:
            self._wake(OUTLINE, CURRENT)
            return
        gone = self._registry.names.gone
        objects = (Mark("object", change.source, key) for key in change.keys)
        # a copy that was not told of an object before it went cannot know of it, and what was taken
        # back has not gone
        lost = not change.keys or change.removed
        names = (Mark("gone", key=name) for name in change.names if lost or gone(name))
        self._wake(*objects, *names, CURRENT)

    def _catalog_changed(self, datacenter: str, service: str) -> None:
        if service:
            self._wake(Mark("service", datacenter, service), CURRENT)
        elif datacenter:
            self._wake(Mark("nodes", datacenter), CURRENT)
        else:
            self._wake(OUTLINE, CURRENT)
