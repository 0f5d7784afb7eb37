"""When to try again, and what to log: each outage once, its end once, and neither too often."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("discoverd.docker")

FIRST_DELAY = 0.1  # seconds
LAST_DELAY = 5.0  # seconds
#: Seconds in step after which the next outage starts with the first delay again.
SETTLED = 1.0
#: Seconds between two outages that are both worth a line.
QUIET = 30.0


class Outage:
    """One engine's comings and goings. ``clock`` counts monotonic seconds."""

    def __init__(self, source: str, clock: Callable[[], float]) -> None:
        self._source, self._clock = source, clock
        self._delay = FIRST_DELAY
        self._began: float | None = None
        self._in_step: float | None = None
        self._logged = float("-inf")
        self._loud = self._known = False
        self._hushed = 0

    def failed(self, reason: str) -> float:
        """Out of step (still): returns the seconds to wait before the next attempt."""
        now = self._clock()
        if self._in_step is not None and now - self._in_step >= SETTLED:
            self._delay = FIRST_DELAY
        self._in_step = None
        if self._began is None:
            self._began, self._loud = now, False
        if not self._loud and now - self._logged >= QUIET:
            self._loud, self._logged = True, now
            what = "what was known stays" if self._known else "its names are unknown until then"
            more = f" ({self._hushed} more outages since the last such line)" if self._hushed else ""
            log.warning("%s: %s; trying again, %s%s", self._source, reason, what, more)
            self._hushed = 0
        log.debug("%s: %s", self._source, reason)
        delay, self._delay = self._delay, min(self._delay * 2, LAST_DELAY)
        return delay * random.uniform(0.75, 1.25)  # noqa: S311 - so that several don't come at once

    def ended(self, summary: str) -> None:
        """In step (again)."""
        now = self._clock()
        if self._began is not None and self._loud:
            log.info("%s: in step after %.1f s, %s", self._source, now - self._began, summary)
        elif not self._known:
            log.info("%s: in step, %s", self._source, summary)
        elif self._began is not None:
            self._hushed += 1
        self._known = True
        self._began = None
        if self._in_step is None:
            self._in_step = now
