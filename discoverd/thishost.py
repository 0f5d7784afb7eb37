"""What of the registry stands on this host: its containers, and the processes registered with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from discoverd.model import Instance
    from discoverd.registry import Change, Registry

#: Kinds of sources whose instances are this host's.
KINDS = ("docker", "registered")


class ThisHost:
    """A view of the registry for who tells others of this host."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def instances(self) -> Iterator[Instance]:
        return (i for i in self._registry.instances() if is_here(i.source))

    def settled(self) -> bool:
        """Whether every source of such instances has said once what there is."""
        return not any(map(is_here, self._registry.syncing))

    def subscribe(self, told: Callable[[], None]) -> Callable[[], None]:
        """Be told of changes here; returns the way to stop it."""

        def changed(change: Change) -> None:
            touched = (*change.added, *change.removed, *(after for _, after in change.updated))
            if change.everything or any(is_here(i.source) for i in touched):
                told()

        return self._registry.subscribe(changed)


def is_here(source: str) -> bool:
    """Whether what a source knows stands on this host, by its name: ``docker/local``, ``registered``."""
    return source.partition("/")[0] in KINDS
