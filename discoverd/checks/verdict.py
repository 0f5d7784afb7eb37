"""From probe results to health: how many it takes, and when to look again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from discoverd.model import Health

#: Seconds between two probes of an instance that is as it was.
INTERVAL = 5.0
#: Seconds until the next one where nothing is known yet, or the last one spoke against what was known.
SOON = 1.0
#: Results in a row that it takes. One failure may be a lost packet; one success after a start is what
#: everybody waits for, after an illness it may be a flicker.
FALL, RISE, FIRST_RISE = 3, 2, 1
#: Share of a wait by which it is longer or shorter, so that many checks don't come at a time.
JITTER = 0.2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is believed of one instance; ``against`` counts the results in a row that say otherwise."""

    health: Health = Health.STARTING
    against: int = 0

    def heard(self, *, well: bool) -> Verdict:
        """After one more result."""
        if well == (self.health is Health.HEALTHY) and self.health is not Health.STARTING:
            return Verdict(self.health)
        if well:
            enough = FIRST_RISE if self.health is Health.STARTING else RISE
            return self._turned(Health.HEALTHY, enough)
        return self._turned(Health.UNHEALTHY, FALL)

    def _turned(self, health: Health, enough: int) -> Verdict:
        against = self.against + 1
        return Verdict(health) if against >= enough else Verdict(self.health, against)

    def wait(self, chance: float) -> float:
        """Seconds until the next probe; ``chance`` from 0 to 1 places it within the jitter."""
        wait = SOON if self.against or self.health is Health.STARTING else INTERVAL
        return wait * (1 + JITTER * (2 * chance - 1))
