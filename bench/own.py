"""discoverd beside itself: what views, a wildcard socket, changes, size and workers cost.

Peers take part where they can be asked the same. Servers come from ``bench/churn_server.py``
where a configuration file cannot say what is needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING, Final

from bench import peers
from bench.catalog import ASKERS, CHANGES_A_SECOND, Catalog
from bench.context import CATALOG, PLAIN
from bench.measure import Contestant, Ratio, ratio
from bench.results import Goal, Result, Table, faults_of, goal, throughput, throughput_table
from bench.servers import START_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.context import Bench

VIEWS: Final = 50
LARGE: Final = 100_000
SMALL: Final = 100
#: Questions a second at which the cost of changes and workers is compared.
STEADY: Final = 50_000
WORKERS: Final = 2
#: Questions that are on their way for each worker. With few of them two workers on one core take turns so
#: often that each finds the caches full of the other's: 1.65 with 256, 1.8 with 512, 1.9 with 1,024.
UNDER_WAY: Final = 1024
#: CPU a query with counting by without: what cannot be told apart here.
COUNTING: Final = 1.02
MIB: Final = 1 << 20


def wildcard(bench: Bench) -> Result:
    """A socket on 0.0.0.0, which needs packet info to answer from the address that was asked."""
    narrow, wide = bench.serve(peers.DISCOVERD), bench.serve(peers.discoverd("--listen", "0.0.0.0:{port}"))
    contestants = [bench.contestant(wide, label="discoverd on 0.0.0.0"), bench.contestant(narrow)]
    bench.run(contestants)
    note = "on 0.0.0.0 every datagram carries where it was sent to, and its reply where it must leave from"
    result = Result("wildcard", [throughput_table("wildcard", contestants, contestants[0], note)])
    found = throughput(contestants[0], contestants[1])
    result.goals.append(goal("wildcard socket: throughput by plain", found, at_least=0.9))
    result.faults = faults_of(contestants)
    return result


def views(bench: Bench) -> Result:
    """Askers in 50 networks, each with answers of its own."""
    result = Result("views")
    with asker_addresses() as possible:
        if not possible:
            result.notes.append("views: left out, it takes root to have askers at 50 addresses (ip route)")
            return result
        sources = ("--source", ASKERS.format(0, 1), "--sources", str(VIEWS), "--sockets", str(VIEWS))
        many, one = bench.serve(peers.composed("--views", str(VIEWS))), bench.serve(peers.composed())
        few = bench.questions(many.peer, first=CATALOG.services // VIEWS)
        flags = (*sources, "--in-flight", "200")
        contestants = [
            bench.contestant(many, PLAIN, *flags, label=f"discoverd, {VIEWS} views"),
            Contestant(f"{VIEWS} views, {CATALOG.services // VIEWS} names each", many, few, flags),
            bench.contestant(one, PLAIN, *flags, label="discoverd, one view"),
        ]
        for each in contestants:
            # which asker asks what is chance: so many that every pair has come up
            bench.settle(each.server, each.questions, 3 * VIEWS * CATALOG.services, flags)
        bench.run(contestants)
    note = (
        f"{VIEWS} askers, each in a container network of its own, and the same askers in no network. With all"
        f" names asked in all views, {VIEWS} times as many answers are kept and used, more than a processor's"
        " cache holds; with fewer names the number of answers is the same as with one view"
    )
    result.tables.append(throughput_table("views", contestants, contestants[0], note))
    for each in contestants[:2]:
        found = throughput(each, contestants[2])
        result.goals.append(goal(f"{each.label}: throughput by one view's", found, at_least=0.9))
    result.faults = faults_of(contestants)
    return result


@contextlib.contextmanager
def asker_addresses() -> Iterator[bool]:
    """Let this machine send from the whole range of the askers, over loopback; whether that worked."""
    ip, route = (
        shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin"),
        ASKERS.format(0, 0) + "/16",
    )
    if ip is None or os.geteuid() != 0:
        yield False
        return
    subprocess.run([ip, "route", "replace", "local", route, "dev", "lo"], check=True)
    try:
        yield True
    finally:
        subprocess.run([ip, "route", "del", "local", route, "dev", "lo"], check=True)


def changes(bench: Bench) -> Result:
    """The registry changes a thousand times a second, at the same rate of questions."""
    server = bench.serve(peers.composed())
    rate = ("--rate", str(STEADY))
    still = bench.contestant(server, PLAIN, *rate, label="discoverd, still")
    moving = bench.contestant(server, PLAIN, *rate, label=f"discoverd, {CHANGES_A_SECOND:,} changes/s")
    moving.before = lambda: server.signal(signal.SIGUSR1)
    moving.after = lambda: server.signal(signal.SIGUSR2)
    bench.run([moving, still])
    each = float(server.output())  # microseconds of CPU that one change took
    net = (moving.middle("cpu") - each * CHANGES_A_SECOND / STEADY) / still.middle("cpu")
    note = (
        f"{STEADY:,} questions a second. One change itself takes {each:.0f} µs, from the source's call until"
        " every answer that rests on it is dropped; with that taken off, a question costs"
        f" {net:.2f} times what it costs while nothing changes: what is left is answers made anew"
    )
    result = Result(
        "changes",
        [throughput_table("changes", [moving, still], moving, note)],
        faults=faults_of([moving, still]),
    )
    cost = ratio(moving, still, "cpu")
    result.goals.append(goal(f"{CHANGES_A_SECOND:,} changes/s: CPU a query by still", cost, at_most=1.05))
    result.goals.append(goal("the same, the changes' own work taken off", Ratio(net, net, net), at_most=1.05))
    return result


def counting(bench: Bench) -> Result:
    """The same server with its counters and clocks, and with them taken out."""
    contestants = [
        bench.contestant(bench.serve(peers.composed()), label="discoverd, counting"),
        bench.contestant(bench.serve(peers.composed("--uncounted")), label="discoverd, not counting"),
    ]
    bench.run(contestants)
    note = "metrics are always counted; the query log is off in both"
    result = Result("counting", [throughput_table("counting", contestants, contestants[0], note)])
    result.faults = faults_of(contestants)
    cost = ratio(contestants[0], contestants[1], "cpu")
    result.goals.append(goal("counting: CPU a query by without", cost, at_most=COUNTING))
    return result


def scale(bench: Bench) -> Result:
    """100 and 100,000 services, discoverd and NSD."""
    result = Result("scale")
    few, many = Catalog(SMALL), Catalog(LARGE)
    contestants = []
    for peer in (peers.composed(), peers.NSD):
        if peer.find() is not None:
            continue
        for catalog in (many, few):
            server = bench.serve(peer, catalog)
            questions = bench.questions(peer, PLAIN, catalog)
            bench.settle(server, questions, catalog.services)
            contestants.append(Contestant(f"{peer.name}, {catalog.services:,} services", server, questions))
            if catalog is many:
                hot = bench.questions(peer, PLAIN, catalog, first=SMALL)
                contestants.append(Contestant(f"{peer.name}, {SMALL} asked of {LARGE:,}", server, hot))
    bench.run(contestants)
    note = (
        f"all {LARGE:,} names asked in turn is also a measure of the processor's caches: see what it does to"
        f" NSD; {SMALL} asked of {LARGE:,} shows what the size of the registry itself costs"
    )
    result.tables.append(throughput_table("scale", contestants, contestants[0], note))
    result.faults = faults_of(contestants)
    by_label = {c.label: c for c in contestants}
    small = by_label[f"discoverd, {SMALL} services"]
    for label in (f"discoverd, {SMALL} asked of {LARGE:,}", f"discoverd, {LARGE:,} services"):
        cost = ratio(by_label[label], small, "cpu")
        result.goals.append(
            goal(f"CPU a query, {label.removeprefix('discoverd, ')}, by {SMALL} services", cost, at_most=1.05)
        )
    return result


def memory(bench: Bench) -> Result:
    """Resident memory by service and by instance, before and after everything was asked."""
    rows, result = [], Result("memory")
    spent: dict[tuple[int, int], tuple[int, int]] = {}
    peer = peers.composed()
    for services, instances in ((1, 1), (LARGE, 1), (LARGE // 4, 4)):
        catalog = Catalog(services, instances)
        server = bench.serve(peer, catalog)
        fresh = server.memory()
        bench.settle(server, bench.questions(peer, PLAIN, catalog), services)
        spent[services, instances] = fresh, server.memory()
        server.stop()
        rows.append(
            (
                f"{services:,}",
                f"{services * instances:,}",
                *(f"{m / MIB:.0f}" for m in spent[services, instances]),
            )
        )
    bare = spent[1, 1][0]
    # two equations: services + instances, at two different shapes of the same number of instances
    wide, deep = spent[LARGE, 1][0] - bare, spent[LARGE // 4, 4][0] - bare
    per_service = (wide - deep) / (LARGE - LARGE // 4)
    per_instance = wide / LARGE - per_service
    kept = spent[LARGE, 1][1] - spent[LARGE, 1][0]
    note = (
        f"{per_service:,.0f} octets a service and {per_instance:,.0f} an instance; answers kept for a name"
        f" that is asked take {kept / LARGE:,.0f} more. A process that knows nothing: {bare / MIB:.0f} MiB"
    )
    columns = ("services", "instances", "MiB at start", "MiB after all were asked")
    result.tables.append(Table("memory", columns, rows, note))
    size = spent[LARGE, 1][1] / MIB
    result.goals.append(Goal(f"MiB for {LARGE:,} instances, all asked", size, 400, at_least=False))
    return result


def _all_answer(http: int) -> bool:
    """Wait until every worker answers on its sockets; before that the main process does for it."""
    patience = time.monotonic() + START_SECONDS
    while time.monotonic() < patience:
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/v1/sources") as reply:
            if sum(worker["answering"] for worker in json.load(reply)["workers"]) == WORKERS:
                return True
        time.sleep(0.05)
    return False


def workers(bench: Bench) -> Result:
    """One process and two, each with as much under way."""
    enough = len(os.sched_getaffinity(0)) > WORKERS
    core = -1 if enough else bench.effort.cores.server
    one = bench.serve(peers.DISCOVERD, core=core)
    two = bench.serve(peers.discoverd("--workers", str(WORKERS), "--http", "127.0.0.1:{http}"), core=core)
    if not _all_answer(two.port + 1):
        return Result("workers", faults=[f"workers: --workers {WORKERS} has not as many that answer"])
    contestants = [
        bench.contestant(
            server, PLAIN, "--sockets", "32", "--in-flight", str(UNDER_WAY * number), label=label
        )
        for server, number, label in (
            (two, WORKERS, f"discoverd, {WORKERS} workers"),
            (one, 1, "discoverd, 1 worker"),
        )
    ]
    bench.run(contestants)
    where = (
        "servers free to use every core"
        if enough
        else "this machine has no core for each worker and one for the load: all workers take turns on one"
        " core apart from the load, and what two pay for a question beyond one is what they would lose. That"
        " they share its caches is counted against them"
    )
    note = f"closed loop, {UNDER_WAY:,} questions under way for each worker; {where}"
    result = Result(
        "workers",
        [throughput_table("workers", contestants, contestants[0], note)],
        faults=faults_of(contestants),
    )
    if enough:
        found, what = ratio(contestants[0], contestants[1], "qps"), "throughput"
    else:
        cost = ratio(contestants[0], contestants[1], "cpu")
        found = Ratio(WORKERS / cost.middle, WORKERS / cost.high, WORKERS / cost.low)
        what = "throughput by CPU a query"
    result.goals.append(goal(f"{WORKERS} workers: {what}, by one's", found, at_least=1.8))
    return result
