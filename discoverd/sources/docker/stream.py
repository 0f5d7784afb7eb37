"""Reading the event stream: one thread that does nothing else, into a mailbox without duplicates.

A slow reader makes the engine drop events silently and holds up its API calls, so nothing is
done here but to note which container is to be looked at. Events are never taken for data: their
attributes can be forged by labels. Only that a container was killed or has died is believed at
once, since an inspect may wait for seconds while the engine takes down what it left.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from discoverd.sources.docker.fault import EngineAwayError
from discoverd.sources.docker.shape import part, text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from discoverd.sources.docker.shape import Json


#: The label that tells a Swarm task's container; events carry labels.
TASK = "com.docker.swarm.task.id"


@dataclass(slots=True)
class Batch:
    """What has come since the last look into the mailbox."""

    #: Containers to be inspected, the longest waiting first.
    dirty: dict[str, None] = field(default_factory=dict)
    #: (container, signal sent), oldest first.
    kills: list[tuple[str, str]] = field(default_factory=list)
    #: Containers whose main process ended and was not started again since.
    deaths: dict[str, None] = field(default_factory=dict)
    #: When the first event of each of these was read (:func:`time.perf_counter`).
    since: dict[str, float] = field(default_factory=dict, compare=False)
    networks: bool = False
    #: Something of a swarm: its services or nodes, a task on this node.
    services: bool = False
    tasks: bool = False
    #: The stream is over; ``error`` says why, None for a stream that was merely quiet.
    ended: bool = False
    error: EngineAwayError | None = None


def note(event: Json, batch: Batch) -> bool:
    """Add what one event asks for; False for events that ask for nothing."""
    kind, action = text(event, "Type"), text(event, "Action")
    actor = text(part(event, "Actor"), "ID")
    attributes = part(event, "Actor", "Attributes")
    if kind == "container" and actor and not action.startswith("exec_"):
        batch.since.setdefault(actor, time.perf_counter())
        if action == "kill":
            batch.kills.append((actor, text(attributes, "signal")))
            return True
        batch.dirty[actor] = None
        if action == "die":
            batch.deaths[actor] = None
        elif action == "start":
            batch.deaths.pop(actor, None)
        batch.tasks |= TASK in attributes
        return True
    if kind in {"service", "node"}:
        batch.services = True
        return True
    if kind == "network":
        if action in {"connect", "disconnect"}:
            # Podman has no such attribute: there the actor is the container
            if container := text(attributes, "container") or actor:
                batch.dirty[container] = None
        else:
            batch.networks = True
        return True
    return False


class Mailbox:
    """Between the reading thread and the loop. Its size is bounded by the number of containers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._batch = Batch()
        self._full = False
        self._ready = asyncio.Event()
        #: Events that asked for something.
        self.events = 0

    def post(self, event: Json) -> None:
        """Any thread: take in one event."""
        with self._lock:
            wake = note(event, self._batch)
            self.events += wake
            wake, self._full = wake and not self._full, self._full or wake
        if wake:
            self._wake()

    def end(self, error: EngineAwayError | None) -> None:
        """Any thread: the stream is over."""
        with self._lock:
            if not self._batch.ended:
                self._batch.ended, self._batch.error = True, error
            self._full = True
        self._wake()

    async def take(self) -> Batch:
        """Wait for something, and empty the box."""
        await self._ready.wait()
        self._ready.clear()
        with self._lock:
            batch, self._batch = self._batch, Batch()
            self._full = False
        return batch

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:
            return  # the loop is closed: nobody reads any more


def read(feed: Iterable[Json], mailbox: Mailbox) -> None:
    """The reading thread: until the stream is over, which the mailbox is told."""
    try:
        for event in feed:
            mailbox.post(event)
    except EngineAwayError as error:
        mailbox.end(error)
    except Exception as error:  # noqa: BLE001 - a thread that dies unheard would end all updates
        mailbox.end(EngineAwayError(f"reading events failed: {error!r}"))
    else:
        mailbox.end(None)
