"""The query log: a queue that is never waited for, and a thread that writes.

What it costs is bounded: the queue holds so many entries and drops what is more, and the thread uses the
interpreter for a fifth of the time at most.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Literal

from discoverd import __version__
from discoverd.querylog.dnstap import Encoder
from discoverd.querylog.lines import as_json, as_text
from discoverd.querylog.sinks import is_reader, sink_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from discoverd.dns.observer import Entry

log = logging.getLogger("discoverd.querylog")

#: Entries that wait to be written; some 400 octets each.
QUEUE_MOST: Final = 50_000
#: Entries written at a time: others get the interpreter in between.
SLICE: Final = 32
#: Seconds of rest for each second of work.
REST: Final = 4.0
#: Seconds that what waits has to be written when the server stops.
LAST_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """``to`` is ``stdout``, a path, or a URL of who reads dnstap; one in ``sample`` is logged."""

    to: str
    style: Literal["text", "json"] = "text"
    sample: int = 1


class QueryLog:
    """Satisfies :class:`discoverd.dns.observer.Log`. Made on the event loop, which calls all of it."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._sink = settings, sink_of(settings.to)
        self._form = _form(settings)
        self._queue: SimpleQueue[Sequence[Entry] | None] = SimpleQueue()
        self._skip = 0
        #: Each of these has one thread that writes it: the loop the first two, the log's the others.
        self._taken = self._overflown = 0
        self._done = self._lost = 0
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="query log", daemon=True)
        self._thread.start()

    def pick(self, count: int) -> range:
        """Of the next so many answers, those whose turn it is."""
        every = self._settings.sample
        if every == 1:
            return range(count)
        picked = range(self._skip, count, every)
        self._skip += len(picked) * every - count
        return picked

    def take(self, entries: Sequence[Entry]) -> None:
        if self._taken - self._done > QUEUE_MOST:
            self._overflown += len(entries)
            return
        self._taken += len(entries)
        self._queue.put(entries)

    def counts(self) -> tuple[int, int]:
        """How many were written, and how many dropped: the queue was full, or nobody took them."""
        return self._done - self._lost, self._overflown + self._lost

    def close(self) -> None:
        """Write what waits, if that can be had soon. Blocks."""
        self._queue.put(None)
        self._thread.join(LAST_SECONDS)

    # -- the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        while (entries := self._queue.get()) is not None:
            for first in range(0, len(entries), SLICE):
                began = time.thread_time()
                part = entries[first : first + SLICE]
                self._write(part)
                self._done += len(part)
                time.sleep((time.thread_time() - began) * REST)
        self._sink.close()

    def _write(self, entries: Sequence[Entry]) -> None:
        try:
            self._sink.write(b"".join(map(self._form, entries)))
        except OSError as error:
            self._lost += len(entries)
            if not self._trouble:
                self._trouble = error.strerror or str(error)
                log.warning("%s does not take the query log: %s", self._settings.to, self._trouble)
        except Exception:  # one odd entry must not end the log
            self._lost += len(entries)
            log.exception("the query log lost %d entries", len(entries))
        else:
            if self._trouble:
                log.info("%s takes the query log again", self._settings.to)
            self._trouble = ""


def _form(settings: Settings) -> Callable[[Entry], bytes]:
    if is_reader(settings.to):
        return Encoder(socket.gethostname(), f"discoverd {__version__}").frame
    return as_json if settings.style == "json" else as_text
