"""A source whose instances are probed where they ask for it, for as long as the source runs."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from discoverd.checks.overlay import Overlay, Target
from discoverd.checks.probe import probe
from discoverd.checks.verdict import Verdict
from discoverd.model import Health

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from discoverd.model import Check, IPAddress
    from discoverd.sources.base import Sink, Source

log = logging.getLogger("discoverd.checks")

#: Probes at a time, of all sources together: each holds a socket for up to 2 s.
LANES = 32


class CheckedSource:
    """Satisfies :class:`discoverd.sources.base.Source`.

    ``make`` makes the source that is given ``sink`` with checks in front of it; ``lanes`` bounds the
    probes at a time and is shared by all sources.
    """

    def __init__(
        self,
        make: Callable[[Sink], Source],
        sink: Sink,
        lanes: asyncio.Semaphore,
        *,
        probe: Callable[[IPAddress, Check], Awaitable[str]] = probe,
    ) -> None:
        self._overlay = Overlay(sink)
        self._overlay.watcher = self
        self._lanes, self._probe = lanes, probe
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._source = make(self._overlay)
        self.name, self.kind = self._source.name, self._source.kind

    async def run(self) -> None:
        """As the source's own; its fault comes out as it is."""
        fault: Exception | None = None
        async with asyncio.TaskGroup() as group:
            self._group = group
            for key, target in self._overlay.targets.items():  # of an earlier run
                self.watch(key, target)
            try:
                await self._source.run()
            except Exception as error:  # noqa: BLE001 - raised below, outside of the group
                fault = error
            finally:
                self._group = None
                for key in list(self._tasks):
                    self.drop(key)
        if fault is not None:
            raise fault

    def watch(self, key: str, target: Target) -> None:
        """Probe a target until it is dropped or replaced."""
        self.drop(key)
        if self._group is not None:
            name = f"check {key[:12]}"
            self._tasks[key] = self._group.create_task(self._look_after(key, target), name=name)

    def drop(self, key: str) -> None:
        if task := self._tasks.pop(key, None):
            task.cancel()

    async def _look_after(self, key: str, target: Target) -> None:
        verdict = Verdict()
        while True:
            async with self._lanes:
                fault = await self._probe(target.address, target.check)
            before, verdict = verdict.health, verdict.heard(well=not fault)
            if verdict.health is not before:
                tell = log.info if verdict.health is Health.HEALTHY else log.warning
                why = f": {fault}" if fault else ""
                tell("%s: %s at %s is %s%s", key[:12], target.check, target.address, verdict.health, why)
                self._overlay.judged(key, target, verdict.health)
            await asyncio.sleep(verdict.wait(random.random()))  # noqa: S311 - spreads load, keeps no secret
