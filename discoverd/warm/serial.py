"""Keeps the SOA serial from going back at a restart (RFC 1912 section 2.2).

It follows the clock, so there is nothing to keep unless changes come faster than one a second for so
long that it has run ahead. Then a number beyond what will be reached soon is written beforehand: a
process that is killed says nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, Final

from discoverd.warm.keeper import in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from discoverd.registry import Registry

log = logging.getLogger("discoverd.warm")

#: How far ahead is written: for minutes of a thousand changes a second.
AHEAD: Final = 200_000
#: Seconds between two looks.
LOOK: Final = 1.0
#: Seconds that a disk has for the last word.
LAST_SECONDS: Final = 1.0


class SerialKeeper:
    """One file with one number: what the serial has not passed."""

    def __init__(self, registry: Registry, path: Path) -> None:
        self._registry, self._path = registry, path
        self._written = 0
        self._trouble = ""
        self._closed = False

    def begin(self) -> None:
        """Go on from what is kept; what cannot be read is said, and not used."""
        try:
            self._written = int(self._path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            log.warning("the last SOA serial cannot be read from %s: %s", self._path, error)
            return
        self._registry.go_by(max(self._registry.serial, self._written))

    async def run(self) -> None:
        """Write a number ahead of the serial whenever it comes near the last one, until cancelled."""
        while True:
            serial = self._registry.serial
            if not self._closed and serial > time.time() and serial + AHEAD // 2 > self._written:
                await self._write(serial + AHEAD)
            await asyncio.sleep(LOOK)

    def go_on(self) -> None:
        """Go on from what is kept by now, after :meth:`close`."""
        self._closed = False
        self.begin()

    async def close(self) -> None:
        """Write the number itself, where one was written before or the clock would not do; nothing more."""
        if self._closed:
            return
        self._closed = True
        serial = self._registry.serial
        if self._written > time.time() or serial > time.time():
            try:
                async with asyncio.timeout(LAST_SECONDS):
                    await self._write(serial)
            except TimeoutError:
                log.warning("%s: the disk does not answer", self._path)

    async def _write(self, number: int) -> None:
        try:
            await in_thread(lambda: _replace(self._path, str(number)))
        except OSError as error:
            if str(error) != self._trouble:  # each once
                log.warning("the SOA serial cannot be kept in %s: %s", self._path, error)
            self._trouble = str(error)
        else:
            self._written, self._trouble = number, ""


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
