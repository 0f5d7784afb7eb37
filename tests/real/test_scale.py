"""Ten thousand containers, recorded, beside a hundred: the first sync, one event, a storm of events, memory.

Real containers in such numbers take more than a machine has; 200 of them are in test_convergence.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from bench.tools import cpu_seconds, resident_bytes
from discoverd.sources.docker.pace import GAP
from discoverd.sources.docker.sync import LANES
from tests.conftest import MEASURED
from tests.real.debian import REPO
from tests.real.many import address
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.real.server import Server

FEW, MANY = 100, 10_000
#: Events whose processor time is counted, in so many turns with each number of containers.
COUNTED, TURNS = 40, 5
STORMING, RATE, SECONDS = 10, 1000, 3

pytestmark = pytest.mark.timeout(600)


class Replayed:
    """One replaying engine in a process of its own."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir()
        self.socket = folder / "engine.sock"
        command = [sys.executable, "-m", "tests.real.many", str(self.socket), str(count)]
        self._process = subprocess.Popen(command, cwd=REPO, stdin=subprocess.DEVNULL)
        until(self.socket.exists, message="the replaying engine listens")

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def get(self, path: str) -> Any:
        connection = http.client.HTTPConnection("engine", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.socket))
        connection.request("GET", path)
        answer = json.load(connection.getresponse())
        connection.close()
        return answer

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture
def replayed(tmp_path: Path) -> Generator[Callable[[int], Replayed]]:
    made: list[Replayed] = []

    def start(count: int) -> Replayed:
        made.append(Replayed(tmp_path / f"engine{len(made)}", count))
        return made[-1]

    yield start
    for engine in made:
        engine.close()


def follow(discoverd: Callable[..., Server], engine: Replayed) -> Server:
    """A discoverd in step with it, where unhealthy is gone at once.

    Neither its resync nor what it keeps on disk, each a bounded share of the time, comes in between.
    """
    config = f'[[docker]]\nurl = "{engine.url}"\nresync_seconds = 3600\n[health]\nwhen_none = "empty"\n'
    server = discoverd("--state-dir", "off", docker=engine.url, config=config)
    server.wait_source("live", timeout=300)
    return server


def ask(server: Server, number: int) -> bytes:
    """Asked by datagrams of our own: dig would cost more than what is measured."""
    name = f"c{number}"
    query = b"\x00\x07\x01\x00\x00\x01" + bytes(6) + bytes([len(name)]) + name.encode() + b"\x06docker\x00"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(30)
        asker.sendto(query + b"\x00\x01\x00\x01", ("127.0.0.1", server.dns_port))
        return asker.recv(1500)


def served(server: Server, number: int) -> bool:
    return int.from_bytes(ask(server, number)[6:8]) == 1


def test_ten_thousand_containers(
    replayed: Callable[[int], Replayed],
    discoverd: Callable[..., Server],
    record_property: Callable[[str, object], None],
) -> None:
    engines = {count: replayed(count) for count in (FEW, MANY)}
    servers: dict[int, Server] = {}
    memory: dict[int, int] = {}
    for count, engine in engines.items():
        began = time.monotonic()
        servers[count] = follow(discoverd, engine)
        record_property(MEASURED + f"first sync of {count:,} containers", f"{time.monotonic() - began:.1f} s")
        memory[count] = resident_bytes(servers[count].process.pid)
        stats = engine.get("/_stats")
        assert stats["inspects"] == count, "each is inspected once"
        assert 1 < stats["most_at_once"] <= LANES, "a few at a time"
        for number in (0, count // 2, count - 1):
            assert servers[count].dig(f"c{number}.docker").addresses == {address(number)}
    each = (memory[MANY] - memory[FEW]) / (MANY - FEW)
    record_property(
        MEASURED + f"memory with {MANY:,} containers",
        f"{memory[MANY] / 2**20:.0f} MiB, {each:,.0f} octets each beyond {memory[FEW] / 2**20:.0f} MiB",
    )

    spent = dict.fromkeys(engines, 0.0)
    for turn in range(TURNS):
        for count, engine in engines.items():
            server = servers[count]
            before = sum(cpu_seconds(server.process.pid))
            for step in range(COUNTED):
                number = turn * FEW // TURNS + step // 2
                engine.get(f"/_flap/{number}")
                until(lambda n=number, s=server, gone=step % 2: served(s, n) == bool(gone))  # type: ignore[misc]
            spent[count] += sum(cpu_seconds(server.process.pid)) - before
            assert engine.get("/_stats")["inspects"] <= count + 2 * (turn + 1) * COUNTED
    ratio = spent[MANY] / spent[FEW]
    record_property(
        MEASURED + f"CPU of one event with {MANY:,} containers",
        f"{spent[MANY] / TURNS / COUNTED * 1e3:.1f} ms, {ratio:.2f} times that with {FEW}",
    )
    # anything that looks at all of them would be tens of times as much; the rest is for a busy machine
    assert ratio < 3, "one event costs the same, however many containers there are"


def test_a_storm_of_health_changes(
    replayed: Callable[[int], Replayed],
    discoverd: Callable[..., Server],
    record_property: Callable[[str, object], None],
) -> None:
    engine = replayed(FEW)
    server = follow(discoverd, engine)
    before = engine.get("/_stats")
    spent = sum(cpu_seconds(server.process.pid))
    assert engine.get(f"/_storm/{STORMING}/{RATE}/{SECONDS}") == {}
    after = engine.get("/_stats")
    assert after["events"] - before["events"] == RATE * SECONDS
    assert served(server, FEW - 1), "the others are answered for meanwhile"
    # each container's events end in at most one inspect a gap, and one for the last of them
    until(lambda: all(served(server, number) for number in range(STORMING)), message="all are as they were")
    inspects = engine.get("/_stats")["inspects"] - before["inspects"]
    assert STORMING <= inspects <= STORMING * (after["last_storm"] / GAP + 3)
    assert inspects < RATE * SECONDS / 2
    spent = sum(cpu_seconds(server.process.pid)) - spent
    record_property(
        MEASURED + f"{RATE} health changes a second of {STORMING} containers, for {SECONDS} s",
        f"{inspects} inspects, {spent:.2f} s of CPU",
    )
    # and what comes after it is followed as before
    engine.get("/_flap/0")
    until(lambda: not served(server, 0))
