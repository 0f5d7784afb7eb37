"""What an experiment found: the measured contestants, and how they stand to what is to be reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.measure import ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.measure import Contestant, Ratio


#: Share of its core from which on a server counts as the limit of what was measured.
BUSY = 0.85


@dataclass(frozen=True)
class Goal:
    """A ratio that is to be reached; never a reason to fail."""

    text: str
    measured: float
    #: The bound, and whether it is one from below.
    bound: float
    at_least: bool
    spread: str = ""
    #: What the C yardstick reaches in the same run, where it can be asked the same.
    limit: str = ""

    @property
    def reached(self) -> bool:
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    @property
    def verdict(self) -> str:
        if self.reached:
            return "reached"
        missing = abs(self.measured / self.bound - 1) if self.bound else self.measured
        return f"{missing:.0%} short"


@dataclass
class Table:
    """Rows of text under a heading, as they are printed and written."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""


@dataclass
class Result:
    """One experiment's outcome."""

    name: str
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    #: For the plot: panel title -> label -> (median, lower quartile, upper quartile).
    bars: dict[str, dict[str, tuple[float, float, float]]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def goal(
    text: str,
    found: Ratio,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    limit: Ratio | None = None,
) -> Goal:
    """A goal for a measured ratio: ``at_least`` or ``at_most``."""
    bound = at_least if at_least is not None else at_most
    assert bound is not None
    return Goal(text, found.middle, bound, at_least is not None, found.spread, str(limit or ""))


def faults_of(contestants: Sequence[Contestant]) -> list[str]:
    return [f"{c.label}: {c.fault}" for c in contestants if c.fault]


def throughput(over: Contestant, under: Contestant) -> Ratio:
    """One server's questions a second on one core by another's.

    Where something else was the limit (the load generator, other work on the machine), and so the
    core not used up, by what a core could do: the inverse of CPU a query.
    """
    full = min(over.middle("busy"), under.middle("busy")) >= BUSY
    return ratio(over, under, "qps") if full else ratio(under, over, "cpu")


def throughput_table(
    title: str, contestants: Sequence[Contestant], ours: Contestant, note: str = ""
) -> Table:
    """Queries a second and CPU a query of each, and what ``ours`` is of it."""
    rows: list[tuple[str, ...]] = []
    for each in contestants:
        speed, cost = ratio(ours, each, "qps"), ratio(each, ours, "cpu")
        asked = max(1, each.total("answered"))
        marks = []
        if each.middle("busy") < BUSY:
            marks.append(f"{each.middle('busy'):.0%} busy")
        if lost := each.total("lost"):
            marks.append(f"{lost} lost")
        if without := each.total("without_opt"):
            marks.append(f"{without / asked:.0%} without OPT")
        if "--cookies" in each.load:
            marks.append(f"{each.total('cookies') / asked:.0%} with a server cookie")
        rows.append(
            (
                each.label,
                f"{each.middle('qps'):,.0f}",
                f"{speed} ({speed.spread})",
                f"{each.middle('cpu'):.2f}",
                f"{each.middle('user'):.2f}",
                f"{cost} ({cost.spread})",
                ", ".join(marks),
            )
        )
    columns = ("server", "queries/s", f"{ours.label} is ×", "CPU µs", "of it user", "per CPU ×", "")  # noqa: RUF001
    return Table(title, columns, rows, note)


def latency_table(title: str, contestants: Sequence[Contestant], ours: Contestant, note: str = "") -> Table:
    """Percentiles in microseconds, and how many times the peer's ``ours`` takes."""
    rows: list[tuple[str, ...]] = []
    for each in contestants:
        times = ratio(ours, each, "p99")
        rows.append(
            (
                each.label,
                *(f"{each.middle(what):,.0f}" for what in ("p50", "p99", "p999")),
                f"{times} ({times.spread})",
                str(each.total("lost")),
                f"{each.middle('cpu'):.1f}",
            )
        )
    columns = ("server", "p50 µs", "p99 µs", "p99.9 µs", f"{ours.label}'s p99 is ×", "lost", "CPU µs")  # noqa: RUF001
    return Table(title, columns, rows, note)
