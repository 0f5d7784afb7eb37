"""Other people's names: kept, and asked of a server, beside the peers that do the same.

NSD is who is asked. It has the load generator's core, so what it takes is alike for all.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from bench import peers
from bench.context import PLAIN
from bench.peers import Peer
from bench.results import Result, faults_of, goal, latency_table, throughput, throughput_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.catalog import Catalog
    from bench.context import Bench
    from bench.measure import Contestant

    Prepare = Callable[[Path, int, Catalog], list[str]]

#: Seconds that what is kept may be kept: longer than all of it takes.
LONG_TTL: Final = 3600
#: Questions under way.
UNDER_WAY: Final = 100
#: Questions a second at which the time of a forward is compared.
RATE: Final = 1000


def forward(bench: Bench) -> Result:
    """Throughput of what is kept and of what is asked, and how long asking takes."""
    if (why := peers.NSD.find()) is not None:
        return Result("forward", notes=[f"forward left out: {why}"])
    upstream = bench.serve(Peer("NSD", "docker", _zone), core=bench.effort.cores.load)
    wanted = {peer.name for peer in bench.taking_part}
    made = {
        name: prepare
        for name, prepare in {"discoverd": _discoverd, "Unbound": _unbound, "dnsmasq": _dnsmasq}.items()
        if name in wanted
    }
    result = Result("forward")
    kept = [
        bench.contestant(bench.serve(Peer(name, "docker", prepare(upstream.port, 10_000))))
        for name, prepare in made.items()
    ]
    for each in kept:
        bench.settle(each.server, each.questions, 1000)
    bench.run(kept)
    note = "1,000 names of others, all of them kept"
    result.tables.append(throughput_table("kept", kept, kept[0], note))
    for other in kept[1:]:
        found = throughput(kept[0], other)
        result.goals.append(goal(f"kept: throughput by {other.label}'s", found, at_least=1.0))
    rivals = [
        bench.serve(Peer(name, "docker", prepare(upstream.port, 0)))
        for name, prepare in made.items()
        if name != "Unbound"  # it has no way to keep nothing
    ]
    asked = [bench.contestant(server, PLAIN, "--in-flight", str(UNDER_WAY)) for server in rivals]
    bench.run(asked)
    note = "the same with nothing kept: every question is asked of NSD"
    result.tables.append(throughput_table("asked", asked, asked[0], note))
    timed = [bench.contestant(server, PLAIN, "--rate", str(RATE)) for server in rivals]
    direct = bench.contestant(upstream, PLAIN, "--rate", str(RATE), label="NSD itself")
    bench.run([*timed, direct])
    note = f"{RATE:,} questions a second, nothing kept"
    result.tables.append(latency_table("time of a forward", [*timed, direct], timed[0], note))
    for other, late in zip(asked[1:], timed[1:], strict=True):
        found = throughput(asked[0], other)
        result.goals.append(goal(f"asked: throughput by {other.label}'s", found, at_least=1.0))
        _say_what_is_added(result, timed[0], late, direct)
    result.faults = faults_of([*kept, *asked, *timed])
    return result


def _say_what_is_added(result: Result, ours: Contestant, other: Contestant, direct: Contestant) -> None:
    added = {c.label: c.middle("p99") - direct.middle("p99") for c in (ours, other)}
    told = ", ".join(f"{label} {microseconds:,.0f} µs" for label, microseconds in added.items())
    result.notes.append(f"p99 added by a forward, on this machine: {told}")


def _zone(home: Path, port: int, catalog: Catalog) -> list[str]:
    command = peers.NSD.prepare(home, port, catalog)
    zone = home / "docker.zone"
    zone.write_text(zone.read_text().replace("$TTL 5", f"$TTL {LONG_TTL}"))
    return command


def _discoverd(upstream: int, entries: int) -> Prepare:
    def prepare(home: Path, port: int, _catalog: Catalog) -> list[str]:
        config = home / "discoverd.toml"
        config.write_text(f"[forward]\ncache_entries = {entries}\n")
        flags = f"--listen 127.0.0.1:{port} --upstream 127.0.0.1:{upstream} --domain own.example"
        off = "--docker off --consul off --http off --state-dir off --log-level warning"
        return [
            *(sys.executable, "-m", "discoverd", "serve", "--config", str(config)),
            *f"{flags} {off}".split(),
        ]

    return prepare


def _unbound(upstream: int, _entries: int) -> Prepare:
    def prepare(home: Path, port: int, catalog: Catalog) -> list[str]:
        command = peers.UNBOUND.prepare(home, port, catalog)
        path = home / "unbound.conf"
        lines = [line for line in path.read_text().splitlines() if not line.strip().startswith("local-")]
        lines += ["server:", "  do-not-query-localhost: no", "  domain-insecure: docker", "forward-zone:"]
        lines += ["  name: docker", f"  forward-addr: 127.0.0.1@{upstream}"]
        path.write_text("\n".join(lines) + "\n")
        return command

    return prepare


def _dnsmasq(upstream: int, entries: int) -> Prepare:
    def prepare(home: Path, port: int, _catalog: Catalog) -> list[str]:
        return [
            *(peers.DNSMASQ.program(), "--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts"),
            *("--user=root", "--no-resolv", f"--pid-file={home}/pid", f"--port={port}", "--bind-interfaces"),
            *("--listen-address=127.0.0.1", f"--server=127.0.0.1#{upstream}", f"--cache-size={entries}"),
            *("--dns-forward-max=1000", "--log-facility=/dev/null"),
        ]

    return prepare
