"""Registrations over HTTP, and what must have become of them by the clock, whatever was killed meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from tests.chaos.subject import Subject

SERVICES = ("l0", "l1", "l2")
#: Seconds: leases that end soon, and such that do not end here.
SHORT, LONG = 3, 3600
#: Seconds after its end that a busy machine may need until a lease is gone.
SLACK = 15.0
MOST = 12


@dataclass(frozen=True)
class Held:
    """A registration: there for certain until ``sure``, gone for certain from ``over``, unsure between."""

    service: str
    address: str
    lease: int
    sure: float
    over: float


class Leases:
    """What one server was told, and acknowledged."""

    def __init__(self, subject: Subject, number: int) -> None:
        self.subject, self._number = subject, number
        self.held: dict[str, Held] = {}
        self._count = 0
        #: What was sent and never acknowledged: it may or may not have happened.
        self._unsure: dict[str, Held | None] = {}

    def act(self, pick: Random) -> str:
        """Register, replace, renew or deregister something; says what."""
        known = sorted(self.held)
        choice = pick.random()
        if known and (choice < 0.3 or len(known) >= MOST):
            return self._delete(pick.choice(known))
        if known and choice < 0.5:
            return self._renew(pick.choice(known))
        self._count += 1
        ident = pick.choice(known) if known and choice < 0.6 else f"{self.subject.name}-{self._count}"
        address = f"10.97.{self._number}.{self._count % 250 + 1}"
        lease = pick.choice((SHORT, LONG))
        return self._put(ident, Held(pick.choice(SERVICES), address, lease, 0, 0))

    def settle(self) -> None:
        """Say again what was not acknowledged, as a client would, until it is."""
        for ident, wanted in list(self._unsure.items()):
            if wanted is None:
                self._delete(ident)
            else:
                self._put(ident, wanted)

    def restarted(self, killed: float) -> None:
        """The server is back: leases begin anew, also one whose end was not yet on disk."""
        now = time.monotonic()
        for ident, one in self.held.items():
            if one.over < killed:
                continue
            sure = killed + one.lease if one.sure > killed else one.sure
            self.held[ident] = replace(one, sure=sure, over=now + one.lease + SLACK)

    def truth(self) -> tuple[dict[str, set[str]], dict[str, set[str]], dict[str, list[str]]]:
        """By service: addresses that must be answered, such that may be, and ids that are there."""
        now = time.monotonic()
        must: dict[str, set[str]] = {f"{service}.docker": set() for service in SERVICES}
        may: dict[str, set[str]] = {name: set() for name in must}
        ids: dict[str, list[str]] = {name: [] for name in must}
        for ident, one in self.held.items():
            name = f"{one.service}.docker"
            if ident in self._unsure or one.sure <= now <= one.over:
                may[name].add(one.address)
            elif now < one.sure:
                must[name].add(one.address)
                ids[name].append(ident)
        for wanted in self._unsure.values():
            if wanted is not None:
                may[f"{wanted.service}.docker"].add(wanted.address)
        return must, may, ids

    @property
    def decided(self) -> bool:
        """Whether nothing is between being there and being gone."""
        now = time.monotonic()
        return not self._unsure and not any(one.sure <= now <= one.over for one in self.held.values())

    def forget_all(self) -> None:
        self.settle()
        for ident in list(self.held):
            self._delete(ident)

    # -- single calls ---------------------------------------------------------------------

    def _put(self, ident: str, wanted: Held) -> str:
        began = time.monotonic()
        body = {"service": wanted.service, "addresses": [wanted.address], "lease": wanted.lease}
        self._unsure[ident] = wanted
        try:
            said = self.subject.api(f"/v1/instances/{ident}", "PUT", body)
        except OSError:
            return f"{self.subject.name}: register {ident}, not acknowledged"
        assert said.status in (200, 201), said.text
        over = time.monotonic() + wanted.lease + SLACK
        self.held[ident] = replace(wanted, sure=began + wanted.lease, over=over)
        del self._unsure[ident]
        return f"{self.subject.name}: register {ident} as {wanted.service} for {wanted.lease} s"

    def _renew(self, ident: str) -> str:
        began, one = time.monotonic(), self.held[ident]
        try:
            said = self.subject.api(f"/v1/instances/{ident}/renew", "POST")
        except OSError:
            # it may have been renewed, or not
            self.held[ident] = replace(one, over=time.monotonic() + one.lease + SLACK)
            return f"{self.subject.name}: renew {ident}, not acknowledged"
        now = time.monotonic()
        if said.status == 404:
            assert ident in self._unsure or now > one.sure, f"{ident} is gone before its lease is over"
            self.held.pop(ident)
        else:
            assert said.status == 200, said.text
            assert ident in self._unsure or began < one.over, f"{ident} is there, {SLACK} s after its end"
            self.held[ident] = replace(one, sure=began + one.lease, over=now + one.lease + SLACK)
        return f"{self.subject.name}: renew {ident}: {said.status}"

    def _delete(self, ident: str) -> str:
        self._unsure[ident] = None
        try:
            said = self.subject.api(f"/v1/instances/{ident}", "DELETE")
        except OSError:
            return f"{self.subject.name}: deregister {ident}, not acknowledged"
        assert said.status in (204, 404), said.text
        self.held.pop(ident, None)
        del self._unsure[ident]
        return f"{self.subject.name}: deregister {ident}: {said.status}"
