"""Instances that register themselves over HTTP: kept on disk, gone when their lease is over.

A change is told to the caller once it is on disk and published. Leases are counted from the last
renewal in this process, so that none runs out because the server was down.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from discoverd.model import SourceState
from discoverd.registration import SOURCE, FieldError, Registration, parse, to_instance, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoverd.ledger import Ledger
    from discoverd.sources.base import Sink

log = logging.getLogger("discoverd.sources.leases")

#: Registrations held; some 2 kB each.
REGISTRATIONS_MOST = 20_000
#: Changes written in one transaction, and so behind one wait for the disk.
BATCH = 500

#: Seconds between two looks at the leases: at most, and at least.
LOOK_SECONDS, SPIN_SECONDS = 3600.0, 0.05
#: Seconds between two tries to take off the disk what has ended while that could not be written.
RETRY_SECONDS = 10.0

#: (id, what it becomes, told whether it was there before)
Operation = tuple[str, Registration | None, "asyncio.Future[bool] | None"]


class FullError(Exception):
    """There are as many registrations as are held."""


class NotKeptError(Exception):
    """The disk did not take a change; nothing was changed."""


class LeaseSource:
    """All registrations. Used on the event loop only; a thread of its own writes to the ledger."""

    name = SOURCE
    kind = SOURCE

    def __init__(self, sink: Sink, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._sink, self._clock = sink, clock
        self._ledger: Ledger | None = None
        self._held: dict[str, Registration] = {}
        self._deadlines: dict[str, float] = {}
        self._wakes_at = float("inf")
        self._sooner = asyncio.Event()
        self._writer = ThreadPoolExecutor(1, "ledger")
        self._pending: deque[Operation] = deque()
        self._unwritten: Counter[str] = Counter()
        #: Leases that are over, and still on disk: with the next start they would begin anew.
        self._left_over: set[str] = set()
        self._trouble = ""
        self.expired = 0

    def load(self, ledger: Ledger | None) -> None:
        """Publish what is on disk; every lease begins anew. An entry that cannot be read is left alone.

        Without a ledger registrations last as long as the process.
        """
        self._ledger = ledger
        self._held.clear()
        self._deadlines.clear()
        for ident, body in (ledger.load() if ledger else {}).items():
            try:
                self._hold(parse(ident, json.loads(body)))
            except (FieldError, ValueError) as error:
                log.warning("the kept registration %s cannot be used: %s", ident, error)
        self._sink.replace({i: (to_instance(r),) for i, r in self._held.items()})
        self._sink.status(SourceState.LIVE, kept_in=str(ledger.path) if ledger else "memory")

    async def put(self, registration: Registration) -> bool:
        """Register or replace; True where it is new. Raises FullError, NotKeptError."""
        new = registration.id not in self._held
        if new and len(self._held) + len(self._pending) >= REGISTRATIONS_MOST:
            raise FullError(f"{REGISTRATIONS_MOST} instances are registered, which is all that are held")
        return not await self._change(registration.id, registration)

    async def delete(self, ident: str) -> bool:
        """Deregister; False where nothing was registered by that id. Raises NotKeptError."""
        if ident not in self._held and not self._unwritten[ident]:
            return False
        return await self._change(ident, None)

    def renew(self, ident: str) -> Registration | None:
        """Begin a lease anew; None where it is gone."""
        registration = self._held.get(ident)
        if registration is not None and registration.lease is not None:
            self._deadlines[ident] = self._clock() + registration.lease
        return registration

    @property
    def leases(self) -> int:
        """How many registrations have a lease."""
        return len(self._deadlines)

    async def run(self) -> None:
        """End leases when they are over, until cancelled."""
        while True:
            now = self._clock()
            for ident in [i for i, deadline in self._deadlines.items() if deadline <= now]:
                self._expire(ident)
            self._take_off()
            self._sooner.clear()
            latest = now + (RETRY_SECONDS if self._left_over else LOOK_SECONDS)
            # not at once: an entry that is being written is looked at again, not spun upon
            self._wakes_at = max(min(self._deadlines.values(), default=latest), now + SPIN_SECONDS)
            self._wakes_at = min(self._wakes_at, latest)
            try:
                await asyncio.wait_for(self._sooner.wait(), self._wakes_at - now)
            except TimeoutError:
                continue

    async def let_go(self) -> None:
        """Write what is to be written, and leave the disk to another process; then :meth:`load` again."""
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            await asyncio.get_running_loop().run_in_executor(self._writer, ledger.close)

    async def close(self) -> None:
        """Write what is still to be written, and let go of the disk."""
        await asyncio.get_running_loop().run_in_executor(None, self._writer.shutdown)
        if self._ledger is not None:
            self._ledger.close()

    # -- inside ---------------------------------------------------------------------------

    def _expire(self, ident: str) -> None:
        if self._unwritten[ident]:
            return  # a newer word on it is on its way to the disk
        registration = self._drop(ident)
        assert registration
        log.info("the lease of %s (%s) is over", ident, registration.service)
        self.expired += 1
        self._sink.publish(ident, ())
        self._enqueue(ident, None, None)

    def _take_off(self) -> None:
        """Try again to take what is over off the disk, unless a newer word on it is on its way there."""
        for ident in self._left_over - self._unwritten.keys() - self._held.keys():
            self._enqueue(ident, None, None)

    async def _change(self, ident: str, registration: Registration | None) -> bool:
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._enqueue(ident, registration, done)
        return await done

    def _enqueue(
        self, ident: str, registration: Registration | None, done: asyncio.Future[bool] | None
    ) -> None:
        self._unwritten[ident] += 1
        self._pending.append((ident, registration, done))
        if self._ledger is None:
            self._written([self._pending.popleft()], None)
        else:
            self._writer.submit(self._write, self._ledger, asyncio.get_running_loop())

    def _write(self, ledger: Ledger, loop: asyncio.AbstractEventLoop) -> None:
        """In the writer's thread: all that is pending in one transaction; a later call finds nothing left."""
        batch: list[Operation] = []
        while self._pending and len(batch) < BATCH:
            batch.append(self._pending.popleft())
        if not batch:
            return
        error: sqlite3.Error | None = None
        try:
            ledger.apply((i, None if r is None else json.dumps(to_json(r))) for i, r, _ in batch)
        except sqlite3.Error as fault:
            error = fault
        loop.call_soon_threadsafe(self._written, batch, error)

    def _written(self, batch: list[Operation], error: sqlite3.Error | None) -> None:
        """Back on the loop: publish in the order of the disk, then tell who waits."""
        self._say(f"{error}" if error is not None else "")
        for ident, registration, done in batch:
            self._unwritten[ident] -= 1
            if not self._unwritten[ident]:
                del self._unwritten[ident]
            if error is not None:
                if done is not None and not done.done():
                    done.set_exception(NotKeptError(f"the state directory did not take it: {error}"))
                elif done is None and ident not in self._left_over:
                    self._left_over.add(ident)
                    self._sooner.set()
                continue
            self._left_over.discard(ident)
            before = self._drop(ident)
            if registration is not None:
                self._hold(registration)
                self._sink.publish(ident, (to_instance(registration),))
            elif before is not None:
                self._sink.publish(ident, ())
            if done is not None and not done.done():
                done.set_result(before is not None)

    def _say(self, trouble: str) -> None:
        """Each trouble once, and its end."""
        if trouble and trouble != self._trouble:
            log.error("registrations cannot be written: %s; those that there are stay", trouble)
        elif self._trouble and not trouble:
            log.info("registrations can be written again")
            self._sooner.set()
        self._trouble = trouble

    def _hold(self, registration: Registration) -> None:
        self._held[registration.id] = registration
        if registration.lease is not None:
            deadline = self._deadlines[registration.id] = self._clock() + registration.lease
            if deadline < self._wakes_at:
                self._sooner.set()

    def _drop(self, ident: str) -> Registration | None:
        self._deadlines.pop(ident, None)
        return self._held.pop(ident, None)
