"""What no answer may be, at any moment, given the truth of that moment. Pure.

A truth is known some time before or after the answers follow it, so most rules give them time; that a
name which was answered is denied needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Seconds that answers may differ from the truth, while the source can be heard: a resync's time.
BOUND: Final = 60.0
#: Seconds for which a name that is gone is not denied; discoverd promises minutes.
REMEMBERED: Final = 240.0
SERVFAIL, NXDOMAIN = 2, 3


class Rules:
    """Of one server. ``denied_once``: one that lives all the time may not deny what it knew a moment ago."""

    def __init__(self, server: str, *, denied_once: bool) -> None:
        self._server, self._denied_once = server, denied_once
        self._truth: Mapping[str, Any] = {"must": {}, "may": {}, "ids": {}, "kind": {}}
        self._blind: set[str] = set()
        #: When it was last answered as a name that there is.
        self._known: dict[str, float] = {}
        #: By name: who had it when it was last answered.
        self._owners: dict[str, frozenset[str]] = {}
        #: By name: who had it when it was answered, and still when it was denied.
        self._denied: dict[str, frozenset[str]] = {}
        #: Since when an address is answered that should not be, or one is missing.
        self._since: dict[tuple[str, str], float] = {}

    def learn(self, truth: Mapping[str, Any], blind: set[str], now: float) -> Iterator[str]:
        """The present truth, and whose word cannot be heard; tells what was wrong in the light of it."""
        for name, ids in self._denied.items():
            if ids & set(truth["ids"].get(name, ())):
                yield f"{self._server}: {name} was denied, and there it was before and after: {sorted(ids)}"
        self._denied.clear()
        self._truth, self._blind = truth, blind
        for name, ids in truth["ids"].items():
            if ids and now - self._known.get(name, now - REMEMBERED) < REMEMBERED:
                self._known[name] = now
        for key in [k for k in self._since if self._is_blind(k[0]) or self._holds(*k)]:
            del self._since[key]

    def check(self, name: str, rcode: int, addresses: frozenset[str], now: float) -> str | None:
        """What is wrong with an answer, if anything."""
        if rcode not in (0, SERVFAIL, NXDOMAIN):
            return f"{self._server}: {name}: rcode {rcode}"
        if rcode == SERVFAIL:
            return f"{self._server}: {name}: SERVFAIL" if self._denied_once else None
        if rcode == NXDOMAIN and not name.endswith(".consul"):
            if self._denied_once and now - self._known.get(name, now - REMEMBERED) < REMEMBERED:
                return f"{self._server}: {name} is denied, and was known {now - self._known[name]:.1f} s ago"
            # it may be over by now: the next truth tells
            if same := self._owners.get(name, frozenset()) & set(self._truth["ids"].get(name, ())):
                self._denied[name] = same
        elif rcode == 0:
            self._known[name], self._owners[name] = now, frozenset(self._truth["ids"].get(name, ()))
        return self._check_addresses(name, addresses, now)

    def _check_addresses(self, name: str, addresses: frozenset[str], now: float) -> str | None:
        if self._is_blind(name):
            return None
        must = set(self._truth["must"].get(name, ()))
        may = must | set(self._truth["may"].get(name, ()))
        wrong = {(name, f"{ip} is answered") for ip in addresses - may}
        wrong |= {(name, f"{ip} is missing") for ip in must - addresses}
        for key in [k for k in self._since if k[0] == name and k not in wrong]:
            del self._since[key]
        for key in sorted(wrong):
            if now - self._since.setdefault(key, now) > BOUND:
                self._since[key] = now
                return f"{self._server}: {name}: {key[1]}, for more than {BOUND:.0f} s"
        return None

    def _holds(self, name: str, what: str) -> bool:
        """Whether what was wrong is right by now."""
        address, _, verb = what.partition(" is ")
        return (address in self._truth["must"].get(name, ())) == (verb == "answered")

    def _is_blind(self, name: str) -> bool:
        return self._server in self._blind or self._truth["kind"].get(name) in self._blind
