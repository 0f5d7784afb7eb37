"""What a source is given and what it must offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from discoverd.model import Instance, Network, SourceState


class Sink(Protocol):
    """Where one source publishes. Every call is synchronous and made on the event loop.

    A source speaks of *objects* (a container id, a static service): what it says of one
    object replaces all that it said of that object before, and nothing else.
    """

    def publish(self, key: str, instances: Iterable[Instance]) -> None:
        """Replace what is known of one object; no instances means the object is gone."""

    def replace(self, objects: Mapping[str, Iterable[Instance]]) -> None:
        """Replace everything this source said (a full sync); objects left out are gone."""

    def networks(self, networks: Iterable[Network]) -> None:
        """Replace the container networks that this source knows."""

    def status(self, state: SourceState, error: str | None = None, **detail: int | str) -> None:
        """Say how current the source is. LIVE stamps the time of the last sync."""


class Source(Protocol):
    """Something that fills the registry for as long as it runs."""

    name: str
    kind: str

    async def run(self) -> None:
        """Publish until cancelled. Raises only on a fault that a restart may mend."""
