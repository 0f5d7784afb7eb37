"""The query log: each answer once, whichever way it came about, and never at the cost of answers."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import logging
import os
import re
import socket
import subprocess
import threading
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoverd.dns import mmsg, observed
from discoverd.dns.observer import UDP
from discoverd.dns.udp import UdpEndpoint
from discoverd.querylog import QueryLog, Settings, log
from discoverd.querylog.entry import question_of
from tests.dns.serving import instance, query, serving
from tests.http.have import or_skip
from tests.real.debian import need
from tests.real.rest import request
from tests.real.server import Server
from tests.wait import until, until_async

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from discoverd.dns.observer import Entry

STATIC = '[[service]]\nname = "web"\naddresses = ["192.0.2.1", "192.0.2.2"]\n'
REPLY = bytes.fromhex("123485000001000200000000") + b"\3Web\6docker\0\0\1\0\1" + b"\0" * 32
ENTRY: Entry = (1_800_000_000_123_000_000, 87_000, UDP, ("192.0.2.9", 4711), ("192.0.2.1", 53), REPLY, False)


@pytest.fixture
def serve(tmp_path: Path) -> Generator[Callable[[str], Server]]:
    servers: list[Server] = []

    def start(to: str, more: str = "", *flags: str) -> Server:
        with or_skip():
            need("dig", "bind9-dnsutils")
        config = f'[query_log]\nto = "{to}"\n{more}\n{STATIC}'
        servers.append(Server(tmp_path / "server", *flags, config=config))
        servers[-1].wait_listening()
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def ask_all_ways(server: Server) -> Counter[tuple[str, str, str, str]]:
    """What was asked: (protocol, type, name, rcode)."""
    asked: Counter[tuple[str, str, str, str]] = Counter()
    for name, rtype, *options in (
        *[("web.docker", "A")] * 5,  # by the resolver, from its parts, ready made
        ("Web.DOCKER", "A"),
        ("web.docker", "AAAA", "+tcp"),
        *[("web.docker", "A", "+tcp")] * 2,
        ("nobody.docker", "SRV"),
        *[("nobody.docker", "A", "+tcp")] * 2,
        ("example.com", "A"),
    ):
        reply = server.dig(name, rtype, *options)
        protocol = "tcp" if "+tcp" in options else "udp"
        asked[protocol, rtype, f"{name}.", reply.status] += 1
    return asked


TEXT = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z 127\.0\.0\.1#[1-9]\d*"
    r" (udp|tcp|https) ([A-Z]+) (\S+) ([A-Z]+) \d+ \d+us \d+\n"
)


def test_a_file_has_every_answer_and_is_made_anew_when_it_was_moved(
    serve: Callable[[str], Server], tmp_path: Path
) -> None:
    path = tmp_path / "queries.log"
    server = serve(str(path))
    asked = ask_all_ways(server)

    def lines() -> list[str]:
        return path.read_text().splitlines(keepends=True) if path.exists() else []

    until(lambda: len(lines()) >= asked.total(), message=lambda: "".join(lines()))
    found: Counter[Any] = Counter()
    for line in lines():
        match = TEXT.fullmatch(line)
        assert match, line
        found[match.groups()] += 1
    assert found == asked
    path.rename(tmp_path / "queries.log.1")
    # it is looked for once a second
    until(lambda: server.dig("web.docker").data and lines())
    assert TEXT.fullmatch(lines()[-1])


def written(server: Server, outcome: str = "written") -> float:
    text = server.api("/metrics").text
    found = re.search(rf'discoverd_query_log_entries_total{{outcome="{outcome}"}} (\S+)', text)
    assert found
    return float(found[1])


def test_json_has_a_line_for_each_of_so_many(serve: Callable[..., Server], tmp_path: Path) -> None:
    path = tmp_path / "queries.json"
    server = serve(str(path), 'format = "json"\nsample = 3')
    for _ in range(12):
        assert server.dig("web.docker").data
    until(lambda: path.exists() and len(path.read_text().splitlines()) == 4)
    for line in path.read_text().splitlines():
        said = json.loads(line)
        assert {key: said[key] for key in ("client", "protocol", "type", "name", "rcode", "answers")} == {
            "client": "127.0.0.1",
            "protocol": "udp",
            "type": "A",
            "name": "web.docker.",
            "rcode": "NOERROR",
            "answers": 2,
        }


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_a_reader_gets_dnstap(serve: Callable[[str], Server], tmp_path: Path, transport: str) -> None:
    """fstrm_capture takes the stream, BIND's dnstap-read reads it."""
    with or_skip():
        capture, read = need("fstrm_capture", "fstrm-bin"), need("dnstap-read", "bind9-dnsutils")
    stream = tmp_path / "stream"
    if transport == "unix":
        to, flags = f"unix://{tmp_path}/tap.sock", ["-u", str(tmp_path / "tap.sock")]
    else:
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            port = free.getsockname()[1]
        to, flags = f"tcp://127.0.0.1:{port}", ["-a", "127.0.0.1", "-p", str(port)]
    command = [capture, "-t", "protobuf:dnstap.Dnstap", "-w", str(stream), *flags]
    reader = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        server = serve(to)
        # what is answered before there is a reader is dropped, and counted
        until(lambda: server.dig("first.docker").status and written(server) > 0)
        first = written(server)
        asked = ask_all_ways(server)
        until(lambda: written(server) >= first + asked.total())
        server.terminate()
    finally:
        reader.terminate()
        reader.wait(20)
    told = subprocess.run([read, str(stream)], capture_output=True, text=True, check=True).stdout
    line = re.compile(r"AR 127\.0\.0\.1:(\d+) <- (?:127\.0\.0\.1:\d+|\?) (UDP|TCP) \d+b (\S+)/IN/(\S+)")
    found = Counter((m[2].lower(), m[4], m[3] + ".") for m in line.finditer(told))
    del found["udp", "A", "first.docker."]
    wanted: Counter[Any] = Counter()
    for (protocol, rtype, name, _), count in asked.items():
        wanted[protocol, rtype, name] += count
    assert found == wanted, told
    whole = subprocess.run([read, "-y", str(stream)], capture_output=True, text=True, check=True).stdout
    assert "version: discoverd" in whole
    assert "status: NXDOMAIN" in whole
    assert "192.0.2.1" in whole


async def test_exact_hits_of_whole_batches_are_logged(tmp_path: Path) -> None:
    if not mmsg.available():
        pytest.skip("this machine has no recvmmsg")
    path = tmp_path / "log"
    async with serving(tmp_path, f'[query_log]\nto = "{path}"\nformat = "json"\n') as server:
        assert isinstance(server.app.servers[0].udp[0], observed.LoggedBatches)
        server.publish(instance("web", "192.0.2.1"), instance("web", "192.0.2.2"))
        packet = query("web.docker").to_wire()
        for _ in range(3):
            await server.octets(packet)
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            sock.settimeout(10)
            sock.connect((server.host, server.port))
            for number in range(100):
                sock.send(number.to_bytes(2, "big") + packet[2:])
            replies = [await asyncio.to_thread(sock.recv, 4096) for _ in range(100)]
        assert len(replies) == 100
        log_of = server.app.answering.query_log
        assert log_of
        await until_async(lambda: log_of.counts() == (103, 0))
    said = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(said) == 103
    assert {(s["name"], s["rcode"], s["answers"], s["client"]) for s in said} == {
        ("web.docker.", "NOERROR", 2, "127.0.0.1")
    }


async def test_without_a_log_nothing_of_it_is_there(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        assert server.app.handler.observer.log is None
        (endpoint,) = server.app.servers[0].udp
        assert type(endpoint) in (observed.TimedBatches, UdpEndpoint)
        assert "query log" not in {thread.name for thread in threading.enumerate()}


def test_a_reader_that_takes_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "QUEUE_MOST", 100)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    holder = os.open(fifo, os.O_RDWR)  # so that it can be opened, and fills
    noted = QueryLog(Settings(str(fifo)))
    try:
        big = (*ENTRY[:5], REPLY + b"\0" * 1000, False)
        for _ in range(3000):
            noted.take([big])  # returns at once: the test would hang here
        assert noted.counts()[1] > 0
        taken = noted._taken
        assert taken - noted._done <= 101
    finally:
        # somebody reads after all
        reader = threading.Thread(target=lambda: _drain(holder), daemon=True)
        reader.start()
        until(lambda: noted._done == noted._taken)
        noted.close()
    written, dropped = noted.counts()
    assert written + dropped == 3000
    os.write(holder, b"end\n")
    reader.join(10)
    os.close(holder)


def _drain(handle: int) -> None:
    while not os.read(handle, 1 << 16).endswith(b"end\n"):
        pass


def test_what_cannot_be_written_is_one_line_and_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noted = QueryLog(Settings(str(tmp_path / "no" / "such" / "folder")))
    for _ in range(10):
        noted.take([ENTRY])
    until(lambda: noted.counts() == (0, 10))
    (tmp_path / "no" / "such").mkdir(parents=True)
    noted.take([ENTRY])
    until(lambda: noted.counts() == (1, 10))
    noted.close()
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert [line.split(": ")[-1] for line in told] == ["No such file or directory"]
    text = (tmp_path / "no" / "such" / "folder").read_text()
    assert text == "2027-01-15T08:00:00.123Z 192.0.2.9#4711 udp A Web.docker. NOERROR 2 87us 60\n"


@given(st.integers(1, 20), st.lists(st.integers(1, 64), max_size=30))
def test_one_of_so_many_is_picked_however_they_come(every: int, batches: list[int]) -> None:
    noted = QueryLog(Settings("stdout", sample=every))
    picked, before = [], 0
    for count in batches:
        picked += [before + i for i in noted.pick(count)]
        before += count
    noted.close()
    assert picked == list(itertools.islice(range(0, max(before, 1), every), len(picked)))
    assert len(picked) == -(-before // every)


@given(st.binary(max_size=300))
def test_any_reply_can_be_read(rest: bytes) -> None:
    asked = question_of(b"\0" * 5 + b"\1" + b"\0" * 6 + rest)
    assert asked.name.isascii()
    assert asked.name.isprintable()
    assert " " not in asked.name


def test_over_https_it_is_logged_as_well(serve: Callable[[str], Server], tmp_path: Path) -> None:
    path = tmp_path / "log"
    server = serve(str(path))
    packet = query("web.docker").to_wire()
    encoded = base64.urlsafe_b64encode(packet).decode().rstrip("=")
    assert request("GET", f"{server.url}/dns-query?dns={encoded}").status == 200
    until(lambda: path.exists() and " https A web.docker. NOERROR 2 " in path.read_text())


def test_several_workers_log_and_count_each_answer_once(serve: Callable[..., Server], tmp_path: Path) -> None:
    path = tmp_path / "log"
    server = serve(str(path), "", "--workers", "2")
    until(lambda: server.log_text.count(" answers, process ") == 2, message=lambda: server.log_text)
    for _ in range(30):
        assert server.dig("web.docker").data
    until(lambda: path.read_text().count(" udp A web.docker. NOERROR 2 ") == 30)
    until(lambda: written(server) == 30)
    counted = re.findall(
        r'^discoverd_dns_queries_total{.*type="A",.*} (\S+)$', server.api("/metrics").text, re.MULTILINE
    )
    assert sum(map(float, counted)) == 30
