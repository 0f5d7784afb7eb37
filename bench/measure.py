"""Measuring in short interleaved slices, and comparing within a round.

A B C A B C ...: what the machine does meanwhile falls on all alike. Ratios are taken between
slices of the same round, and the median of those is reported.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import TYPE_CHECKING, Final

from bench.tools import BenchError, Cores, generate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.servers import Server

#: Seconds of load before each slice, not counted.
WARM_UP: Final = 0.15


@dataclass(frozen=True)
class Effort:
    """How long and where to measure."""

    rounds: int
    seconds: float
    cores: Cores
    nice: int = 0


@dataclass(frozen=True)
class Slice:
    """One server under one load for some tenths of a second. Latencies in microseconds."""

    qps: float
    user: float  #: microseconds of CPU a query
    system: float
    busy: float  #: share of its core that the server used
    p50: float
    p99: float
    p999: float
    lost: int
    wrong: int
    first_wrong: str
    without_opt: int
    cookies: int
    answered: int

    @property
    def cpu(self) -> float:
        return self.user + self.system


@dataclass
class Contestant:
    """A server under a load; what was measured of it is added round by round."""

    label: str
    server: Server
    questions: Path
    #: Flags of the load generator that make the load.
    load: tuple[str, ...] = ()
    slices: list[Slice] = field(default_factory=list)
    #: Done right before and after each slice.
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None

    def total(self, what: str) -> int:
        return sum(int(getattr(each, what)) for each in self.slices)

    def middle(self, what: str) -> float:
        return median(self.each(what))

    def each(self, what: str) -> list[float]:
        return [float(getattr(each, what)) for each in self.slices]

    @property
    def fault(self) -> str | None:
        """What was wrong with its answers, if anything was."""
        wrong = next((s.first_wrong for s in self.slices if s.wrong), None)
        return None if wrong is None else f"{self.total('wrong')} wrong answers, the first: {wrong}"


def run(contestants: Sequence[Contestant], effort: Effort, tell: Callable[[str], None]) -> None:
    """Measure all of them in turn, ``effort.rounds`` times. Raises BenchError for a server that fails."""
    for contestant in contestants:
        if (fault := contestant.server.fault()) is not None:
            raise BenchError(f"{contestant.label} does not answer right: {fault}")
    for number in range(effort.rounds):
        for contestant in contestants:
            tell(f"round {number + 1} of {effort.rounds}: {contestant.label}")
            contestant.before()
            try:
                contestant.slices.append(_slice(contestant, effort))
            finally:
                contestant.after()


def _slice(contestant: Contestant, effort: Effort) -> Slice:
    server = contestant.server
    flags = ["--warm-up", str(WARM_UP), "--seconds", str(effort.seconds), "--spin", *contestant.load]
    started, (user, system) = time.monotonic(), server.cpu()
    report = generate(
        [*flags, "127.0.0.1", str(server.port), contestant.questions], effort.cores.load, effort.nice
    )
    (user_after, system_after), seconds = server.cpu(), time.monotonic() - started
    used = user_after + system_after - user - system
    total = float(report["total"])
    if total == 0:
        raise BenchError(f"{contestant.label} answered nothing under load: {server.output()}")
    return Slice(
        qps=report["qps"],
        user=(user_after - user) / total * 1e6,
        system=(system_after - system) / total * 1e6,
        busy=used / seconds,
        p50=report["p50"],
        p99=report["p99"],
        p999=report["p999"],
        lost=report["lost"],
        wrong=report["wrong"],
        first_wrong=report["first_wrong"],
        without_opt=report["without_opt"],
        cookies=report["cookies"],
        answered=report["answered"],
    )


def burst(server: Server, questions: Path, seconds: float, effort: Effort, load: Sequence[str] = ()) -> int:
    """Ask without measuring; the number of answers."""
    flags = ["--warm-up", "0", "--seconds", str(seconds), *load]
    report = generate([*flags, "127.0.0.1", str(server.port), questions], effort.cores.load, effort.nice)
    return int(report["total"])


@dataclass(frozen=True)
class Ratio:
    """A ratio's median over the rounds, and the quartiles around it."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.2f}"

    @property
    def spread(self) -> str:
        return f"{self.low:.2f}-{self.high:.2f}"


def ratio(over: Contestant, under: Contestant, what: str) -> Ratio:
    """``what`` of one by that of another, round by round."""
    pairs = zip(over.each(what), under.each(what), strict=True)
    values = [a / b for a, b in pairs if b] or [float("inf")]
    if len(values) < 2:
        return Ratio(values[0], values[0], values[0])
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return Ratio(middle, low, high)
