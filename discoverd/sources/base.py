"""What a source is given and what it must offer."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from discoverd.model import Instance, Network, SourceState


#: Upper bounds, in seconds, of how long it takes from hearing of a change until it is in the answers.
LAG_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Lag:
    """How long changes took from being heard of to being answered: a histogram, in seconds."""

    def __init__(self) -> None:
        self.buckets, self.total = [0] * (len(LAG_BOUNDS) + 1), 0.0

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(LAG_BOUNDS, seconds)] += 1
        self.total += seconds


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
