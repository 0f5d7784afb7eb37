"""One connection to an engine, from its first sync until its event stream ends."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from discoverd.sources.docker.fault import EngineAwayError, EngineError, GoneError
from discoverd.sources.docker.listing import fingerprints
from discoverd.sources.docker.manager import Manager
from discoverd.sources.docker.networks import parse_networks
from discoverd.sources.docker.pace import Pace
from discoverd.sources.docker.sync import Sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoverd.sources.docker.book import Update
    from discoverd.sources.docker.client import Client
    from discoverd.sources.docker.publisher import Publisher
    from discoverd.sources.docker.settings import DockerSettings
    from discoverd.sources.docker.stream import Mailbox
    from discoverd.sources.docker.workers import Workers

log = logging.getLogger("discoverd.docker")

#: Every so many resyncs all containers are inspected, whatever the list says.
THOROUGH = 10
#: Stands for the engine's networks among the containers that want another look.
NETWORKS = "networks"
#: The same for what a Swarm manager knows, and for what changes of that without an event.
SERVICES, TASKS = "services", "tasks"
#: Seconds after the end of a drain, so that the clock has surely passed it.
LATER = 0.05


class Connection:
    """Keeps a publisher in step with an engine whose event stream is open and read into ``mailbox``."""

    def __init__(
        self,
        client: Client,
        workers: Workers,
        mailbox: Mailbox,
        publisher: Publisher,
        settings: DockerSettings,
    ) -> None:
        self._client, self._workers, self._mailbox = client, workers, mailbox
        self._publisher, self._settings = publisher, settings
        self._book = publisher.book
        self._manager = Manager(client, workers, publisher.book, publisher.source, publisher.complaints)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failing: set[str] = set()

    async def attend(self, in_step: Callable[[], None], *, thorough: bool) -> EngineAwayError | None:
        """Sync, then follow events until the stream ends; returns why, None where it was merely quiet.

        ``thorough`` makes the first sync inspect everything; ``in_step`` is called after each sync.
        """
        async with asyncio.TaskGroup() as group:
            self._pace = Pace(group, self._look)
            self._sweep = Sweep(group, self._sync_one)
            keeping = group.create_task(self._keep_in_step(in_step, thorough=thorough), name="docker resync")
            polling = group.create_task(self._poll(), name="docker tasks")
            try:
                return await self._follow()
            finally:
                keeping.cancel()
                polling.cancel()
                self._sweep.close()
                self._pace.close()
                for timer in self._timers.values():
                    timer.cancel()

    async def _follow(self) -> EngineAwayError | None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._mailbox.take()
            self._publisher.heard(batch.since)
            for container, sent in batch.kills:
                self._apply(self._book.killed(container, sent, loop.time()))
            for container in batch.deaths:
                self._apply(self._book.died(container, next(self._publisher.questions)))
            for container in batch.dirty:
                self._pace.mark(container)
            if batch.networks:
                self._pace.mark(NETWORKS)
            if batch.services or (batch.tasks and self._book.networks.swarm):
                self._manager.stir()
                self._pace.mark(SERVICES if batch.services else TASKS)
            if batch.ended:
                return batch.error

    async def _keep_in_step(self, in_step: Callable[[], None], *, thorough: bool) -> None:
        for turn in itertools.count(0 if thorough else 1):
            try:
                await self._sync(thorough=turn % THOROUGH == 0)
            except EngineAwayError as error:
                self._mailbox.end(error)
                return
            self._publisher.in_step(replace=turn == 0)
            in_step()
            await asyncio.sleep(self._settings.resync_seconds * random.uniform(0.9, 1.1))  # noqa: S311 - no secret

    async def _poll(self) -> None:
        """Look at a swarm's tasks again and again, while there are any."""
        while True:
            await asyncio.sleep(self._manager.pause)
            if self._manager.polling:
                self._pace.mark(TASKS)

    async def _sync(self, *, thorough: bool) -> None:
        first = next(self._publisher.questions)
        seen = self._publisher.seen
        await self._read_networks()
        if thorough:
            self._manager.doubt()
        self._apply(await self._manager.read(whole=True))
        listed = fingerprints(await self._workers.run(self._client.containers))
        wanted = [
            key for key, sign in listed.items() if thorough or key not in self._book or seen.get(key) != sign
        ]
        # what is not listed is gone, or newer than the list: an inspect tells
        wanted += self._book.ids() - listed.keys()
        await self._sweep.run(wanted)
        if wanted and not self._book and self._failing.issuperset(wanted):
            raise EngineAwayError(
                f"{self._client.url} lists {len(listed)} containers, but lets none be inspected"
            )
        self._publisher.seen = {key: sign for key, sign in listed.items() if key not in self._failing}
        self._book.settle(first)

    async def _read_networks(self) -> None:
        asked = next(self._publisher.questions)
        docs = await self._workers.run(self._client.networks)
        was = self._book.networks.swarm
        self._apply(self._publisher.networks(parse_networks(docs, self._settings.name), asked))
        if was != self._book.networks.swarm:
            self._pace.mark(SERVICES)

    async def _look(self, key: str) -> bool:
        """What an event asked for: one container, or the networks. False: try again."""
        try:
            if key == NETWORKS:
                await self._read_networks()
            elif key in {SERVICES, TASKS}:
                self._apply(await self._manager.read(whole=key == SERVICES))
            else:
                self._apply(await self._inspect(key))
                self._publisher.looked(key)
        except EngineError as fault:
            self._failed(key, fault)
            return False
        return True

    async def _sync_one(self, key: str) -> tuple[str, ...]:
        """What a sync asked for; returns which other containers that leads to."""
        try:
            update = await self._inspect(key)
        except EngineAwayError:
            raise
        except EngineError as fault:
            self._failed(key, fault)
            self._pace.mark(key)
            return ()
        self._apply(replace(update, look=()))
        return update.look

    async def _inspect(self, key: str) -> Update:
        """Ask for one container and write down the answer. Raises EngineError: then all is as it was."""
        asked = next(self._publisher.questions)
        self._publisher.inspects += 1
        try:
            doc = await self._workers.run(lambda: self._client.inspect(key))
        except GoneError:
            update = self._book.gone(key, asked)
        else:
            try:
                update = self._book.heard(doc, asked, asyncio.get_running_loop().time())
            except Exception as error:  # one odd container must not end the updates of all others
                raise EngineError(f"its inspect cannot be read ({error!r})") from error
        self._failing.discard(key)
        return update

    def _apply(self, update: Update) -> None:
        self._publisher.apply(update)
        for key in update.look:
            self._pace.mark(key)
        if update.networks:
            self._pace.mark(NETWORKS)
        for key, seconds in update.again.items():
            if timer := self._timers.get(key):
                timer.cancel()
            self._timers[key] = asyncio.get_running_loop().call_later(seconds + LATER, self._look_again, key)

    def _look_again(self, key: str) -> None:
        del self._timers[key]
        self._pace.mark(key)

    def _failed(self, key: str, fault: EngineError) -> None:
        if key not in self._failing:
            self._failing.add(key)
            level = logging.DEBUG if isinstance(fault, EngineAwayError) else logging.WARNING
            log.log(level, "%s: container %s: %s; kept as it was", self._publisher.source, key[:12], fault)
