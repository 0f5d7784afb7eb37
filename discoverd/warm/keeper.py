"""Keeps what sources last said, and gives it back at a start: served as stale until they are in step.

On the event loop; files are written and read in threads that a hung disk may keep for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

from discoverd.catalog import Datacenter
from discoverd.model import SourceState
from discoverd.warm import files
from discoverd.warm.codec import Followed, Known, UnusableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from discoverd.catalog import Catalog
    from discoverd.registry import Change, Registry, Writer

__all__ = ["Followed", "Keeper"]

log = logging.getLogger("discoverd.warm")

T = TypeVar("T")

#: Seconds from a change until it is written, with all that changes meanwhile.
SETTLE: Final = 1.0
#: Writing takes at most one part in so many of the time.
SHARE: Final = 20
#: Seconds between two looks at which files can be said to be in step still.
STAMP: Final = 60.0
#: Seconds that a disk has for the last words when the server is told to stop.
LAST_SECONDS: Final = 1.5


class Keeper:
    """One folder of files. ``most_seconds`` is how old what is served may be."""

    def __init__(self, registry: Registry, catalog: Catalog, folder: Path, most_seconds: float) -> None:
        self._registry, self._catalog = registry, catalog
        self._folder, self._most = folder, most_seconds
        self._followed: dict[str, Followed] = {}
        self._dirty: set[str] = set()
        self._woken = asyncio.Event()
        #: What is on disk, by source, and until when each source is known to have been in step.
        self._written: dict[str, Known] = {}
        self._in_step: dict[str, float] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._trouble = ""
        self._busy = asyncio.Lock()
        self._closed = False
        registry.subscribe(self._changed)
        catalog.subscribe(self._catalog_changed)

    async def begin(self, source: Followed, writer: Writer, *, begun: bool = False) -> None:
        """Follow a source from now on, with what is kept of it for a beginning unless it has ``begun``."""
        self._followed[source.name] = source
        if begun:
            self._note([source.name])
            return
        try:
            found = await in_thread(lambda: files.read(self._folder, source, self._most))
            if found is not None:
                self._restore(source, writer, found)
        except UnusableError as why:
            await self._set_aside(source, why)
        except OSError as error:
            log.warning("%s: what is kept of it cannot be read: %s", source.name, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not keep the server from starting
            writer.give_up()
            await self._set_aside(source, UnusableError(f"beyond reading ({error!r})"))

    def end(self, name: str) -> None:
        """A source is no longer configured; its file stays until it is too old."""
        self._followed.pop(name, None)
        self._written.pop(name, None)
        self._in_step.pop(name, None)
        if timer := self._timers.pop(name, None):
            timer.cancel()

    async def run(self) -> None:
        """Write what changes, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STAMP):
                    await self._woken.wait()
            await asyncio.sleep(SETTLE)
            began = time.monotonic()
            await self._write_all()
            await asyncio.sleep((time.monotonic() - began) * SHARE)

    def go_on(self) -> None:
        """Write again, after :meth:`close`."""
        self._closed = False
        self._note(self._followed)

    async def close(self) -> None:
        """Write what is still to be written, if the disk takes it in time, and nothing more."""
        for timer in self._timers.values():
            timer.cancel()
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self._write_all()
        except TimeoutError:
            log.warning("%s: the disk does not answer, the last changes are not kept", self._folder)
        self._closed = True

    # -- giving back ------------------------------------------------------------------------

    def _restore(self, source: Followed, writer: Writer, found: files.Found) -> None:
        known = found.known
        if source.datacenter is not None:
            self._catalog.restore(
                known.datacenter, known.services, known.nodes, known.datacenters, home=not source.datacenter
            )
        writer.restore(known.objects, known.networks, found.as_of)
        self._written[source.name] = known
        age = time.time() - found.as_of
        log.info(
            "%s: %d instances, as of %.0f s ago, are served until it is reached",
            source.name,
            self._registry.count(source.name),
            age,
        )
        loop = asyncio.get_running_loop()
        self._timers[source.name] = loop.call_later(self._most - age, self._give_up, source, writer, known)

    def _give_up(self, source: Followed, writer: Writer, known: Known) -> None:
        if writer.give_up():
            if source.datacenter is not None:
                self._catalog.drop(known.datacenter)
            log.warning("%s: out of reach for too long, what was known is no longer served", source.name)

    async def _set_aside(self, source: Followed, why: UnusableError) -> None:
        path = files.path_of(self._folder, source)
        try:
            aside = await in_thread(lambda: files.set_aside(self._folder, source))
        except OSError as error:
            log.warning("%s is %s and is not used; it cannot be renamed: %s", path, why, error.strerror)
        else:
            log.warning("%s is %s: not used, kept as %s", path, why, aside.name)

    # -- keeping ----------------------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        if change.everything:
            self._note(self._followed)
            return
        touched = (*change.added, *change.removed, *(after for _, after in change.updated))
        self._note({i.source for i in touched} & self._followed.keys())

    def _catalog_changed(self, _keys: Iterable[str]) -> None:
        self._note(s.name for s in self._followed.values() if s.datacenter is not None)

    def _note(self, names: Iterable[str]) -> None:
        now = time.time()
        for name in names:
            self._dirty.add(name)
            state = self._registry.status(name).state
            # it was in step until this very change, be it the one that ends it
            if state is SourceState.LIVE:
                self._in_step[name] = float("inf")
            elif self._in_step.get(name) == float("inf"):
                self._in_step[name] = now
        if self._dirty:
            self._woken.set()

    async def _write_all(self) -> None:
        """Write what has changed; say of the rest that it is as it was."""
        async with self._busy:
            if self._closed:
                return
            self._woken.clear()
            dirty, self._dirty = self._dirty, set()
            for name in [n for n in self._followed if n in self._in_step]:
                source, as_of = self._followed[name], min(self._in_step[name], time.time())
                known = self._known(source) if name in dirty else self._written.get(name)
                if known is not None:
                    await self._write(source, known, as_of)

    async def _write(self, source: Followed, known: Known, as_of: float) -> None:
        folder, changed = self._folder, known != self._written.get(source.name)

        def work() -> None:
            if changed:
                files.write(folder, source, known, as_of)
            else:
                files.stamp(folder, source, as_of)

        try:
            await in_thread(work)
        except (OSError, files.TooLargeError) as error:
            self._written.pop(source.name, None)
            self._dirty.add(source.name)  # tried again with the next change or stamp
            self._say(f"{getattr(error, 'strerror', None) or error}")
        else:
            self._written[source.name] = known
            self._say("")

    def _known(self, source: Followed) -> Known:
        objects, networks = self._registry.said(source.name)
        if source.datacenter is None:
            return Known(objects, networks)
        name = source.datacenter or self._catalog.home
        held = self._catalog.at(name) or Datacenter()
        datacenters = self._catalog.datacenters
        return Known(objects, networks, name, datacenters, dict(held.services), dict(held.nodes))

    def _say(self, trouble: str) -> None:
        """Each trouble once, and its end."""
        if trouble and trouble != self._trouble:
            log.warning("what sources say cannot be kept in %s: %s; all else goes on", self._folder, trouble)
        elif self._trouble and not trouble:
            log.info("what sources say is kept in %s again", self._folder)
        self._trouble = trouble


async def in_thread(work: Callable[[], T]) -> T:
    """The outcome of what blocks, from a thread that keeps nobody from leaving."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # None where T allows it

    def run() -> None:
        result, fault = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            fault = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, fault)

    threading.Thread(target=run, name="warm", daemon=True).start()
    return await done
