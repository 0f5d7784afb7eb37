"""Measure discoverd and its peers side by side: ``make bench`` or ``python -m bench.run``.

Exit status: 0 when everything ran, whatever the figures; 1 for wrong answers or a server or
generator that failed; 2 for a mistake in the command line.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from bench import convergence, experiments, forward, own, report
from bench.context import LOADS, Bench
from bench.measure import Effort
from bench.peers import PEERS
from bench.tools import ROOT, BenchError, Cores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.peers import Peer
    from bench.results import Result

SINGLE_EXPERIMENTS: Final[dict[str, Callable[[Bench], Result]]] = {
    "tcp": experiments.tcp,
    "latency": experiments.latency,
    "forward": forward.forward,
    "wildcard": own.wildcard,
    "views": own.views,
    "changes": own.changes,
    "counting": own.counting,
    "scale": own.scale,
    "memory": own.memory,
    "workers": own.workers,
    "convergence": convergence.convergence,
}
NAMES: Final = (*(name for name, _, _ in LOADS), *SINGLE_EXPERIMENTS)
#: (rounds, seconds a slice)
FULL: Final = (7, 0.6)
QUICK: Final = (3, 0.3)
#: Measuring as root, both sides run at this priority: what else the machine does disturbs less.
PRIORITY: Final = -20


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    text = (__doc__ or "").partition("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=text)
    parser.add_argument("experiment", nargs="*", help=f"which to run, of: {', '.join(NAMES)} (default: all)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK[0]} rounds of {QUICK[1]} s instead of {FULL[0]} of {FULL[1]:g}",
    )
    parser.add_argument("--rounds", type=int, help="how often each server is measured")
    parser.add_argument("--seconds", type=float, help="how long a slice lasts")
    parser.add_argument("--peers", help="take only these, by name and comma: discoverd,NSD,dnsmasq")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FOLDER",
        help="where the page and the plot go (default: docs/benchmarks when all was run, else nowhere)",
    )
    parser.add_argument("--core", type=int, help="the server's core; the load takes another")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.experiment if name not in NAMES]
    if unknown:
        parser.error(f"no experiment {unknown[0]!r}: expected {', '.join(NAMES)}")
    if given.core is not None and given.core not in os.sched_getaffinity(0):
        parser.error(f"no core {given.core} here: expected one of {sorted(os.sched_getaffinity(0))}")
    wanted = [name.strip() for name in given.peers.split(",")] if given.peers else [p.name for p in PEERS]
    short = list(dict.fromkeys(peer.name.split(",")[0] for peer in PEERS))
    known = {name.lower() for name in (*short, *(peer.name for peer in PEERS))}
    if strange := [name for name in wanted if name.lower() not in known]:
        parser.error(f"no peer {strange[0]!r}: expected {', '.join(short)}")
    given.peers = {name.lower() for name in wanted} | {"discoverd"}
    return given


def taking_part(wanted: set[str], notes: list[str]) -> list[Peer]:
    """The peers that are wanted and here; a note for each that is not."""
    found = []
    for peer in PEERS:
        if not {peer.name.lower(), peer.name.split(",")[0].lower()} & wanted:
            continue
        why = peer.find()
        if why is None:
            found.append(peer)
        else:
            notes.append(f"{peer.name} left out: {why}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    given = options(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    rounds, seconds = QUICK if given.quick else FULL
    cores = Cores.choose()
    if given.core is not None and cores.server >= 0:
        load = next(core for core in sorted(os.sched_getaffinity(0)) if core != given.core)
        cores = Cores(given.core, load)
    effort = Effort(given.rounds or rounds, given.seconds or seconds, cores, 0 if os.geteuid() else PRIORITY)
    wanted = given.experiment or list(NAMES)
    notes: list[str] = []
    results: list[Result] = []
    status = 0
    peers = taking_part(given.peers, notes)
    for note in notes:
        console.print(note, markup=False, highlight=False)
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        for name in _plan(wanted):
            bench = Bench(effort, peers, Path(home), _tell)
            try:
                with bench.stack:
                    found = (
                        experiments.queries(bench, wanted)
                        if name == "queries"
                        else [SINGLE_EXPERIMENTS[name](bench)]
                    )
            except BenchError as error:
                console.print(f"{name}: {error}", markup=False, highlight=False)
                notes.append(f"{name} did not run: {error}")
                status = 1
                continue
            for result in found:
                report.show(console, result)
                status = 1 if result.faults else status
            results += found
    folder = given.write or (None if given.experiment else ROOT / "docs" / "benchmarks")
    if folder is not None:
        console.print(
            f"written to {report.write(folder, results, effort, notes)}", markup=False, highlight=False
        )
    return status


def _plan(wanted: Sequence[str]) -> list[str]:
    """The experiments to run; all loads of the first kind share their servers."""
    loads = {name for name, _, _ in LOADS}
    return (["queries"] if loads & set(wanted) else []) + [n for n in SINGLE_EXPERIMENTS if n in wanted]


def _tell(text: str) -> None:
    """Says what goes on, on one line that is written over; nothing where that is no terminal."""

    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
