"""How often one may ask: a token bucket against busy names, jittered backoff against failures."""

from __future__ import annotations

import random
from dataclasses import dataclass

FIRST_STEP, LAST_STEP = 0.5, 30.0  # seconds
#: Requests of one query that follow each other at once, and how many a second after that.
BURST, RATE = 10, 1.0


@dataclass(slots=True)
class Retry:
    """Waits after failures, in seconds: anywhere from nothing to a step that doubles, so that many who
    failed together do not come back together.
    """

    first: float = FIRST_STEP
    last: float = LAST_STEP
    _step: float = 0.0

    def failed(self) -> float:
        self._step = min(self._step * 2, self.last) if self._step else self.first
        return random.uniform(0, self._step)  # noqa: S311 - spreads load, keeps no secret

    def reset(self) -> None:
        self._step = 0.0


class Bucket:
    """BURST requests at once, then RATE a second."""

    def __init__(self) -> None:
        self._tokens, self._at = float(BURST), 0.0

    def take(self, now: float) -> float:
        """Take a token; the seconds until it is there. ``now`` counts monotonic seconds."""
        self._tokens = min(float(BURST), self._tokens + (now - self._at) * RATE)
        self._at = now
        self._tokens -= 1
        return max(0.0, -self._tokens / RATE)
