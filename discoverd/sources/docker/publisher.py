"""What one engine's source has said so far: it outlives connections."""

from __future__ import annotations

import itertools
import logging
import time
from typing import TYPE_CHECKING

from discoverd.model import SourceState
from discoverd.sources.base import Lag
from discoverd.sources.docker.book import Book

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from discoverd.sources.base import Sink
    from discoverd.sources.docker.book import Update
    from discoverd.sources.docker.networks import NetworkMap
    from discoverd.sources.docker.settings import DockerSettings
    from discoverd.sources.docker.stream import Mailbox

log = logging.getLogger("discoverd.docker")


class Publisher:
    """The book of containers, and the sink that hears of its changes. Event loop only.

    Before the first full sync nothing is published: one of three replicas is a wrong answer.
    """

    def __init__(self, source: str, settings: DockerSettings, sink: Sink) -> None:
        self.source, self._sink = source, sink
        self.book = Book(settings)
        self.synced = False
        #: Numbers of the questions put to the engine, see :mod:`.book`.
        self.questions = itertools.count(1)
        #: What the last list said, by container.
        self.seen: dict[str, Hashable] = {}
        self.inspects = 0
        #: What a swarm's manager refuses, as far as it was said.
        self.complaints: set[str] = set()
        #: From an event that was read to what came of it being in the answers.
        self.lag = Lag()
        self._since: dict[str, float] = {}
        self._connections = self._events = 0
        self._mailbox: Mailbox | None = None

    def connected(self, mailbox: Mailbox) -> None:
        """An event stream is open, read into ``mailbox``."""
        self._events += self._mailbox.events if self._mailbox else 0
        self._mailbox = mailbox
        self._connections += 1

    def heard(self, since: Mapping[str, float]) -> None:
        """Events of these containers were read at these times."""
        self._since.update(since)

    def looked(self, key: str) -> None:
        """A look at a container is over: what has not changed by it was nothing to wait for."""
        self._since.pop(key, None)

    def apply(self, update: Update) -> None:
        for note in update.notes:
            log.warning("%s: %s", self.source, note)
        if self.synced:
            for key, instances in update.objects.items():
                self._sink.publish(key, instances)
                if (since := self._since.pop(key, None)) is not None:
                    self.lag.add(time.perf_counter() - since)

    def networks(self, networks: NetworkMap, asked: int) -> Update:
        update = self.book.set_networks(networks, asked)
        self._sink.networks(self.book.networks.networks)
        return update

    def in_step(self, *, replace: bool) -> None:
        """A sync is complete; with ``replace`` it is the first of a connection."""
        if replace or not self.synced:
            self.synced = True
            self._sink.replace(self.book.objects())
        self.status(SourceState.LIVE)

    def away(self, error: str) -> None:
        """Out of step: what was known stays."""
        self.status(SourceState.STALE if self.synced else SourceState.SYNCING, error)

    def summary(self) -> str:
        return f"{len(self.book)} containers"

    def status(self, state: SourceState, error: str | None = None) -> None:
        self._sink.status(
            state,
            error,
            events=self._events + (self._mailbox.events if self._mailbox else 0),
            reconnects=max(0, self._connections - 1),
            inspects=self.inspects,
            containers=len(self.book),
        )
