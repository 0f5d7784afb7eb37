"""The source: connects to an engine again and again, and remembers what it knew in between.

The event stream is opened before the first list. An event only tells which container to inspect;
everything published comes of an inspect. While the engine is away nothing is taken back.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

from discoverd.model import SourceState
from discoverd.sources.docker.connection import Connection
from discoverd.sources.docker.fault import EngineAwayError
from discoverd.sources.docker.outage import Outage
from discoverd.sources.docker.publisher import Publisher
from discoverd.sources.docker.stream import Mailbox, read
from discoverd.sources.docker.workers import Workers

if TYPE_CHECKING:
    from discoverd.sources.base import Sink
    from discoverd.sources.docker.client import Client
    from discoverd.sources.docker.settings import DockerSettings

#: Calls at once. A sync needs 8; inspects of containers that are started or ended wait for that.
THREADS = 32


class DockerSource:
    """Watches one engine while :meth:`run` runs. Satisfies :class:`discoverd.sources.base.Source`.

    Status details: ``events`` that asked for something, ``reconnects``, ``inspects``, ``containers``.
    """

    kind = "docker"

    def __init__(self, settings: DockerSettings, sink: Sink) -> None:
        self.name = f"docker/{settings.name}"
        self._settings = settings
        self._publisher = Publisher(self.name, settings, sink)
        self.lag = self._publisher.lag

    async def run(self) -> None:
        """Publish until cancelled. An engine that is away, or none, is a status and never an error."""
        self._publisher.status(SourceState.SYNCING)
        outage = Outage(self.name, asyncio.get_running_loop().time)
        workers = Workers(THREADS, self.name)
        thorough = True
        try:
            while True:
                error = await self._connection(workers, outage, thorough=thorough)
                thorough = error is not None
                if error is not None:
                    self._publisher.away(str(error))
                    await asyncio.sleep(outage.failed(str(error)))
        finally:
            workers.stop()

    async def _connection(
        self, workers: Workers, outage: Outage, *, thorough: bool
    ) -> EngineAwayError | None:
        """From connecting until the event stream ends: returns why, None where it was merely quiet."""
        mailbox = Mailbox(asyncio.get_running_loop())
        with contextlib.ExitStack() as stack:
            try:
                client = await workers.run(lambda: connect(self._settings))
                stack.callback(client.close)
                feed = await workers.run(client.events)
            except EngineAwayError as error:
                return error
            stack.callback(feed.close)
            threading.Thread(
                target=read, args=(feed, mailbox), name=f"{self.name}-events", daemon=True
            ).start()
            self._publisher.connected(mailbox)
            connection = Connection(client, workers, mailbox, self._publisher, self._settings)
            return await connection.attend(lambda: outage.ended(self._publisher.summary()), thorough=thorough)


def connect(settings: DockerSettings) -> Client:
    """A client for an engine that answers; blocks. Raises EngineAwayError."""
    from discoverd.sources.docker.client import (
        Client,
    )  # some 0.2 s, which commands that don't serve need not wait

    return Client(settings)
