"""A new discoverd takes over from a running one: not a question is lost, over UDP, TCP and HTTP."""

from __future__ import annotations

import json
import struct
import subprocess
import threading
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import dns.message
import dns.query
import pytest

from bench.catalog import A_IN, NOERROR, wire_name
from bench.tools import BenchError, compiled
from tests.real.conftest import or_left_out
from tests.real.debian import UnavailableError
from tests.real.rest import request
from tests.real.server import Server
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

WEB = '[[service]]\nname = "web"\naddresses = ["192.0.2.1"]\n'
#: Questions a second over UDP, and connections a second that ask one question over TCP.
RATE = 10_000
#: Seconds for one answer of any kind; only a failing test, or a machine that does all else, waits so long.
TIMEOUT = 20.0


class Host:
    """Servers on the same addresses and with the same state directory, one after the other."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack, self._numbers = folder, stack, count()
        self.state = folder / "state"

    def first(self, *flags: str, **options: Any) -> Server:
        server = self.begin(*flags, **options)
        server.wait_listening()
        return server

    def begin(self, *flags: str, config: str = WEB, **options: Any) -> Server:
        folder = self.folder / f"server{next(self._numbers)}"
        server = Server(folder, "--state-dir", str(self.state), *flags, config=config, **options)
        self.stack.callback(server.close)
        return server

    def next(self, old: Server, *flags: str, **options: Any) -> Server:
        """Another one in the place of an old one, which has ended then."""
        server = self.begin("--take-over", *flags, **at(old), **options)
        server.wait_listening()
        until(lambda: old.process.poll() is not None, message=lambda: f"{old.log_text}\n{server.log_text}")
        assert old.process.returncode == 0, old.log_text
        return server


def at(server: Server) -> dict[str, str]:
    return {"listen": f"127.0.0.1:{server.dns_port}", "http": f"127.0.0.1:{server.http_port}"}


@pytest.fixture
def host(tmp_path: Path) -> Generator[Host]:
    with ExitStack() as stack:
        yield Host(tmp_path, stack)


class Flood:
    """The load generator at a fixed rate, until it is told to end."""

    def __init__(self, folder: Path, port: int) -> None:
        questions = folder / "questions"
        asked = wire_name("web.docker") + A_IN
        questions.write_bytes(struct.pack(">HBB", len(asked), NOERROR, 1) + asked)
        with or_left_out():
            try:
                program = compiled("loadgen")
            except BenchError as error:
                raise UnavailableError(str(error)) from None
        rate = ["--rate", str(RATE), "--sockets", "16", "--patience", str(TIMEOUT / 2), "--warm-up", "0"]
        command: list[str | Path] = [program, *rate, "--seconds", "120", "127.0.0.1", str(port), questions]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def end(self) -> dict[str, Any]:
        self._process.terminate()
        said, _ = self._process.communicate(timeout=60)
        found: dict[str, Any] = json.loads(said)
        return found

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


class Asker:
    """One question after the other, each over a connection of its own; what fails is kept."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self.asked, self.faults = 0, list[str]()
        self._ask, self._over = ask, threading.Event()
        self._thread = threading.Thread(target=self._run, name="asker")
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._ask()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a question without an answer
                self.faults.append(f"{self._ask}: {error!r}")
            self.asked += 1

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def by_tcp(port: int) -> None:
    query = dns.message.make_query("web.docker", "A")
    reply = dns.query.tcp(query, "127.0.0.1", TIMEOUT, port)
    assert len(reply.answer) == 1, reply


def by_http(server: Server, numbers: count[int]) -> None:
    """A registration, which is then there."""
    number = next(numbers) % 50
    body = {"service": f"s{number}", "addresses": ["192.0.2.9"]}
    reply = request("PUT", f"{server.url}/v1/instances/i{number}", body)
    assert reply.status in {200, 201}, reply
    assert request("GET", f"{server.url}/v1/services/s{number}").status == 200


def socket_full(server: Server) -> int:
    (line,) = [each for each in server.api("/metrics").text.splitlines() if 'reason="socket_full"' in each]
    return int(float(line.split()[1]))


@pytest.mark.parametrize("workers", [(1, 1, 1), (2, 2, 1)], ids=["one process", "workers"])
def test_not_a_question_is_lost(host: Host, workers: tuple[int, ...]) -> None:
    server = host.first("--workers", str(workers[0]))
    port, numbers = server.dns_port, count()
    askers = [Asker(partial(by_tcp, port)), Asker(partial(by_http, server, numbers))]
    flood = Flood(host.folder, port)
    try:
        for number in workers[1:]:
            until(lambda: all(each.asked > 20 for each in askers))
            server = host.next(server, "--workers", str(number))
            for each in askers:
                each.asked = 0
        until(lambda: all(each.asked > 20 for each in askers))
        found = flood.end()
    finally:
        flood.close()
        for each in askers:
            each.end()
    faults = [fault for each in askers for fault in each.faults]
    assert not faults, f"{len(faults)}: {faults[:3]}\n{server.log_text}"
    assert found["wrong"] == 0, found["first_wrong"]
    assert found["sent"] > RATE
    # what a machine that does something else for long does not come to is no fault of a restart
    assert found["lost"] <= socket_full(server), f"{found}\n{server.log_text}"
    known = {each["name"] for each in server.api("/v1/services").json["services"]}
    assert {f"s{number}" for number in range(20)} <= known, "what was registered with any of them is there"
