"""discoverd beside its peers: which loads, and what is to be reached.

Each experiment is a function that starts its servers, measures, and returns a
:class:`~bench.results.Result`.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

from bench.context import HALF, LOADS, NEW_HALF, PLAIN, TCP
from bench.measure import Ratio, burst, ratio
from bench.peers import RESPONDER
from bench.results import Result, faults_of, goal, latency_table, throughput, throughput_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.context import Bench
    from bench.measure import Contestant

#: Throughput of discoverd by the peer's, for plain and EDNS questions.
AGAINST: Final = {
    "NSD": 1.0,
    "Unbound": 1.1,
    "dnsmasq": 1.5,
    "aardvark-dns": 3.5,
    "Consul": 13.0,
    "CoreDNS": 4.0,
    "C, batched": 0.75,
}
#: Throughput of a load by discoverd's own for plain questions.
AGAINST_PLAIN: Final = {"cookies": 0.8, "new cookies": 0.8, "mixed case": 0.8, HALF: 0.8, NEW_HALF: 0.8}
RATE: Final = 20_000
#: One percent of a slice is a few milliseconds: it takes more slices than a mean does.
PERCENTILE_ROUNDS: Final = 3
#: Seconds in which is found out who can answer how much.
BURST: Final = 0.5


def queries(bench: Bench, wanted: Sequence[str]) -> list[Result]:
    """Throughput on one core under each load."""
    running = [bench.serve(peer) for peer in bench.taking_part]
    results = []
    for load, _, text in LOADS:
        if load not in wanted:
            continue
        contestants = [bench.contestant(s, load) for s in running if load not in s.peer.cannot]
        ours = contestants[0]
        if load != PLAIN:
            plain = bench.contestant(ours.server, label="discoverd, plain")
            contestants.insert(1, plain)
        bench.run(contestants)
        result = Result(
            load, [throughput_table(load, contestants, ours, text)], faults=faults_of(contestants)
        )
        yardstick = next((c for c in contestants if c.label == RESPONDER.name), None)
        for other in contestants[1:]:
            bound = AGAINST.get(other.label) if load in (PLAIN, "edns") else None
            if bound:
                limit = throughput(yardstick, other) if yardstick and yardstick is not other else None
                what = f"{load}: throughput by {other.label}'s"
                result.goals.append(goal(what, throughput(ours, other), at_least=bound, limit=limit))
        if load in AGAINST_PLAIN:
            share = throughput(ours, plain)
            result.goals.append(goal(f"{load}: throughput by plain", share, at_least=AGAINST_PLAIN[load]))
        result.bars[load] = _bars(
            contestants, "qps", next((c for c in contestants if c.label == "NSD"), ours)
        )
        results.append(result)
    return results


def tcp(bench: Bench) -> Result:
    """Pipelined questions over a few connections."""
    running = [bench.serve(peer) for peer in bench.taking_part if TCP not in peer.cannot]
    contestants = [bench.contestant(server, PLAIN, "--tcp") for server in running]
    bench.run(contestants)
    note = "8 connections, 25 questions under way on each"
    result = Result(
        TCP, [throughput_table(TCP, contestants, contestants[0], note)], faults=faults_of(contestants)
    )
    for other in contestants[1:]:
        if other.label == "Unbound":
            found = throughput(contestants[0], other)
            result.goals.append(goal("tcp: throughput by Unbound's", found, at_least=0.5))
    result.bars[TCP] = _bars(
        contestants, "qps", next((c for c in contestants if c.label == "NSD"), contestants[0])
    )
    return result


def latency(bench: Bench) -> Result:
    """Percentiles at a fixed rate."""
    running = [bench.serve(peer) for peer in bench.taking_part]
    contestants = [bench.contestant(server, PLAIN, "--rate", str(RATE)) for server in running]
    for together in _apart(bench, contestants):
        bench.run(together, rounds=PERCENTILE_ROUNDS * bench.effort.rounds)
    note = (
        f"{RATE:,} questions a second on a fixed schedule; a question's time counts from when it was due;"
        f" {PERCENTILE_ROUNDS * bench.effort.rounds} rounds. Servers that this would keep busy were measured"
        " afterwards, so that nobody is measured beside what they have still to do"
    )
    result = Result(
        "latency",
        [latency_table("latency", contestants, contestants[0], note)],
        faults=faults_of(contestants),
    )
    for other in contestants[1:]:
        if other.label == "Unbound":
            found = ratio(contestants[0], other, "p99")
            result.goals.append(goal(f"p99 at {RATE:,}/s by Unbound's", found, at_most=1.3))
    lost = Ratio(contestants[0].total("lost"), 0, 0)
    result.goals.append(goal(f"questions lost at {RATE:,}/s", lost, at_most=0))
    result.bars[f"p99 µs at {RATE:,}/s, of those that held it"] = {
        c.label: _spread(c.each("p99")) for c in contestants if c.total("lost") == 0
    }
    return result


def _apart(bench: Bench, contestants: Sequence[Contestant]) -> list[list[Contestant]]:
    """Those that can answer far more than RATE, and the others."""
    able = [burst(c.server, c.questions, BURST, bench.effort) > 2 * RATE * BURST for c in contestants]
    return [
        [c for c, can in zip(contestants, able, strict=True) if can is wanted] for wanted in (True, False)
    ]


def _spread(values: list[float]) -> tuple[float, float, float]:
    return median(values), min(values), max(values)


def _bars(
    contestants: Sequence[Contestant], what: str, base: Contestant
) -> dict[str, tuple[float, float, float]]:
    found = {c.label: ratio(c, base, what) for c in contestants}
    return {label: (r.middle, r.low, r.high) for label, r in found.items()}
