"""What one process at a time has of a state directory: registrations, sources' last words, the SOA serial."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from discoverd.model import SourceState
from discoverd.supervise import keep_running, spawn
from discoverd.wiring import followed_of, keeper_of, ledger_of, serial_of

if TYPE_CHECKING:
    from pathlib import Path

    from discoverd.catalog import Catalog
    from discoverd.config import Config
    from discoverd.registry import Registry, Writer
    from discoverd.sources.leases import LeaseSource
    from discoverd.warm import Keeper, SerialKeeper
    from discoverd.wiring import SourceSettings


class State:
    """Opened once; let go of and taken up again where another process is to have it in between."""

    def __init__(self, config: Config, registry: Registry, catalog: Catalog, leases: LeaseSource) -> None:
        self._config, self._registry, self._catalog, self._leases = config, registry, catalog, leases
        self._keeper: Keeper | None = None
        self._serial: SerialKeeper | None = None
        self._opened = asyncio.Event()
        #: The directory, where this process has it.
        self.folder: Path | None = None

    def open(self) -> None:
        """Publish what is registered. Raises StartError."""
        ledger = ledger_of(self._config)
        self._leases.load(ledger)
        if self._keeper is None and self._serial is None:
            self._keeper = keeper_of(self._config, ledger, self._registry, self._catalog)
            self._serial = serial_of(ledger, self._registry)
        self.folder = None if ledger is None else ledger.path.parent
        self._opened.set()

    async def follow(self, settings: SourceSettings, writers: list[Writer]) -> None:
        """Keep what a source says, and begin with what is kept of it unless it was in step already."""
        if self._keeper is not None:
            for followed, writer in zip(followed_of(settings), writers, strict=True):
                begun = self._registry.status(followed.name).state is not SourceState.SYNCING
                await self._keeper.begin(followed, writer, begun=begun)

    def end(self, name: str) -> None:
        """A source is no longer configured."""
        if self._keeper is not None:
            self._keeper.end(name)

    async def run(self) -> None:
        """Keep what changes, from the opening on, until cancelled."""
        await self._opened.wait()
        async with asyncio.TaskGroup() as group:
            if self._keeper is not None:
                spawn(group, "warm start", keep_running("warm start", self._keeper.run))
            if self._serial is not None:
                spawn(group, "serial", keep_running("serial", self._serial.run))

    async def let_go(self) -> None:
        """Write everything down, and leave the directory to another process."""
        await self._close()
        await self._leases.let_go()
        self.folder = None

    def take_up(self) -> None:
        """Have it again, as the other process has left it. Raises StartError."""
        self.open()
        if self._keeper is not None:
            self._keeper.go_on()
        if self._serial is not None:
            self._serial.go_on()

    async def close(self) -> None:
        """Write everything down."""
        await self._close()
        await self._leases.close()

    async def _close(self) -> None:
        if self._keeper is not None:
            await self._keeper.close()
        if self._serial is not None:
            await self._serial.close()
