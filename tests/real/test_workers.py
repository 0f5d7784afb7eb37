"""``--workers``: real processes on one port, asked from many source ports so that each worker is."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.conftest import MEASURED
from tests.real.debian import REPO
from tests.real.server import Server
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


WORKERS = 2
#: So many source ports: the chance that one of two workers gets none of them is 1 in 2**31.
PORTS = 32
#: Seconds for one answer; only a failing test waits that long.
TIMEOUT = 5.0
COOKIE = 10

CONFIG = """
[[service]]
name = "web"
addresses = ["192.0.2.1"]
"""


@contextmanager
def serving(folder: Path, *flags: str, config: str = CONFIG) -> Generator[Server]:
    """A server whose workers all answer."""
    server = Server(folder, "--workers", str(WORKERS), *flags, config=config)
    try:
        server.wait_listening()
        wait_for_workers(server)
        yield server
    finally:
        server.close()


def workers(server: Server) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = server.api("/v1/sources").json["workers"]
    return said


def wait_for_workers(server: Server, without: int = 0) -> list[int]:
    """Until all of them answer, a certain one not among them; their processes."""

    def answering() -> list[int]:
        said = workers(server)
        pids = [w["pid"] for w in said if w["answering"]]
        return pids if len(pids) == len(said) == WORKERS and without not in pids else []

    return until(answering, timeout=60, message=lambda: f"{workers(server)}\n{server.log_text}")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """A server for tests that leave it as it was."""
    with serving(tmp_path_factory.mktemp("shared")) as server:
        yield server


class Askers:
    """Sockets on as many source ports, which stay open: each is always asked of the same worker."""

    def __init__(self, server: Server, stack: ExitStack) -> None:
        self._sockets = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(PORTS)
        ]
        for sock in self._sockets:
            sock.settimeout(TIMEOUT)
            sock.connect(("127.0.0.1", server.dns_port))

    def ask(self, name: str, rtype: str = "A", **options: Any) -> list[dns.message.Message]:
        """One reply for each source port."""
        query = dns.message.make_query(name, rtype, **options)
        for sock in self._sockets:
            sock.send(query.to_wire())
        replies = [dns.message.from_wire(sock.recv(4096)) for sock in self._sockets]
        assert all(query.is_response(reply) for reply in replies)
        return replies

    def addresses(self, name: str) -> set[tuple[str, ...]]:
        """The different answers that there are, sorted addresses each."""
        return {addresses(reply) for reply in self.ask(name)}


@contextmanager
def askers(server: Server) -> Iterator[Askers]:
    with ExitStack() as stack:
        yield Askers(server, stack)


def addresses(reply: dns.message.Message) -> tuple[str, ...]:
    return tuple(sorted(str(r) for rrset in reply.answer for r in rrset))


def register(server: Server, ident: str, service: str, address: str) -> None:
    body = {"service": service, "addresses": [address]}
    assert server.api(f"/v1/instances/{ident}", "PUT", body).status in (200, 201)


def is_running(pid: int) -> bool:
    try:
        with Path(f"/proc/{pid}/stat").open() as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def counter(server: Server, name: str) -> float:
    """The sum of a metric over its labels."""
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", server.api("/metrics").text, re.MULTILINE)
    assert found
    return sum(map(float, found))


def doctor(server: Server) -> dict[str, str]:
    """What ``discoverd doctor`` finds of the workers."""
    command = [sys.executable, "-m", "discoverd", "doctor", "--docker", "off", "--upstream", "off", "--json"]
    done = subprocess.run(
        [*command, "--url", server.url], cwd=REPO, capture_output=True, text=True, timeout=60, check=False
    )
    (found,) = [each for each in json.loads(done.stdout) if each["check"] == "workers"]
    assert isinstance(found, dict)
    return found


def test_a_change_is_answered_by_every_worker_at_once(
    shared: Server, record_property: Callable[[str, object], None]
) -> None:
    """From all source ports. A time is from the reply to the change to the last right answer."""
    took = []
    with askers(shared) as all_ports:
        for number in range(1, 21):
            address = f"10.1.0.{number}"
            register(shared, "one", "moving", address)
            begun = time.monotonic()
            until(lambda a=address: all_ports.addresses("moving.docker") == {(a,)}, interval=0)  # type: ignore[misc]
            took.append((time.monotonic() - begun) * 1000)
        for _ in range(PORTS):
            query = dns.message.make_query("moving.docker", "A")
            assert addresses(dns.query.tcp(query, "127.0.0.1", TIMEOUT, shared.dns_port)) == ("10.1.0.20",)
        assert shared.api("/v1/instances/one", "DELETE").status == 204
        until(lambda: all_ports.addresses("moving.docker") == {()})
        # gone a moment ago: not denied, by nobody
        assert {r.rcode() for r in all_ports.ask("moving.docker")} == {dns.rcode.NOERROR}
        serials = {r.answer[0][0].serial for r in all_ports.ask("docker", "SOA")}
        assert len(serials) == 1
    worst, middle = max(took), statistics.median(took)
    text = f"{middle:.1f} ms, at worst {worst:.1f} ms"
    record_property(f"{MEASURED}from a change to the last of {PORTS} askers of {WORKERS} workers", text)
    assert middle < 500, f"50 ms on a machine with nothing else to do: {took}"


def test_a_killed_worker_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    with serving(tmp_path) as server, askers(server) as all_ports:
        register(server, "kept", "kept", "10.1.0.1")
        until(lambda: all_ports.addresses("kept.docker") == {("10.1.0.1",)})
        asked_before = counter(server, "discoverd_dns_udp_queries_total")
        first, second = wait_for_workers(server)
        over, answered, lost = threading.Event(), [], []

        def ask_on() -> None:
            """Each question from a source port of its own."""
            while not over.is_set():
                query = dns.message.make_query("kept.docker", "A")
                try:
                    answered.append(addresses(dns.query.udp(query, "127.0.0.1", TIMEOUT, server.dns_port)))
                except dns.exception.Timeout:
                    lost.append(query)

        stream = threading.Thread(target=ask_on, name="lookups")
        stream.start()
        try:
            for victim in (first, second):
                so_far = len(answered)
                until(lambda n=so_far: len(answered) > n + 20)  # type: ignore[misc]
                os.kill(victim, signal.SIGKILL)
                wait_for_workers(server, without=victim)
        finally:
            over.set()
            stream.join()
        assert set(answered) == {("10.1.0.1",)}
        assert len(lost) <= 2, "only what a worker had taken out of its socket when it was killed"
        assert all_ports.addresses("kept.docker") == {("10.1.0.1",)}
        assert sorted(w["deaths"] for w in workers(server)) == [1, 1]
        assert counter(server, "discoverd_worker_deaths_total") == 2
        assert counter(server, "discoverd_workers") == WORKERS
        assert counter(server, "discoverd_dns_udp_queries_total") >= asked_before
        assert "worker 1 was killed by signal 9" in server.log_text
        assert doctor(server)["found"] == "2 of 2 answer, 2 have died since the start"
        register(server, "after", "after", "10.1.0.2")
        until(lambda: all_ports.addresses("after.docker") == {("10.1.0.2",)})


def test_a_worker_that_stood_still_catches_up(tmp_path: Path) -> None:
    """Beyond what fits into its channel: thousands of services come while it does not read."""
    with serving(tmp_path) as server, askers(server) as all_ports:
        still, _ = wait_for_workers(server)
        os.kill(still, signal.SIGSTOP)
        try:
            many = "".join(
                f'[[service]]\nname = "s{n}"\naddresses = ["10.2.{n // 250}.{n % 250}"]\n'
                for n in range(3000)
            )
            (tmp_path / "discoverd.toml").write_text(many)
            server.process.send_signal(signal.SIGHUP)
            until(lambda: len(server.api("/v1/services").json["services"]) == 3000)
            register(server, "last", "last", "10.3.0.1")
        finally:
            os.kill(still, signal.SIGCONT)
        until(lambda: all_ports.addresses("last.docker") == {("10.3.0.1",)}, timeout=60)
        until(lambda: all_ports.addresses("s2999.docker") == {("10.2.11.249",)}, timeout=60)
        assert all_ports.addresses("s0.docker") == {("10.2.0.0",)}
        until(lambda: all_ports.addresses("web.docker") == {()})
        assert still in wait_for_workers(server), "it was slow, not dead"


def test_a_reload_reaches_every_worker(tmp_path: Path) -> None:
    with serving(tmp_path) as server, askers(server) as all_ports:
        assert {r.answer[0].ttl for r in all_ports.ask("web.docker")} == {5}
        (tmp_path / "discoverd.toml").write_text('ttl = 77\ndomains = ["other"]\n' + CONFIG)
        server.process.send_signal(signal.SIGHUP)
        until(lambda: all_ports.addresses("web.other") == {("192.0.2.1",)})
        assert {r.answer[0].ttl for r in all_ports.ask("web.other")} == {77}
        assert {r.rcode() for r in all_ports.ask("web.docker")} == {dns.rcode.REFUSED}
        # and who comes later goes by it as well
        killed, _ = wait_for_workers(server)
        os.kill(killed, signal.SIGKILL)
        wait_for_workers(server, without=killed)
        assert {r.answer[0].ttl for r in all_ports.ask("web.other")} == {77}


def test_before_a_first_sync_no_worker_denies_anything(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "--docker", f"unix://{tmp_path}/nobody.sock") as server,
        askers(server) as all_ports,
    ):
        assert {r.rcode() for r in all_ports.ask("nobody.docker")} == {dns.rcode.SERVFAIL}
        assert all_ports.addresses("web.docker") == {("192.0.2.1",)}


def test_a_cookie_of_one_worker_is_good_for_another(shared: Server) -> None:
    client = b"\1\2\3\4\5\6\7\x08"
    with askers(shared) as all_ports:

        def cookies(cookie: bytes) -> set[bytes]:
            options = [dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)]
            replies = all_ports.ask("web.docker", use_edns=0, options=options)
            return {o.to_wire() or b"" for r in replies for o in r.options if o.otype == COOKIE}

        given = cookies(client).pop()
        assert (len(given), given[:8]) == (24, client)
        # one that is good comes back as it was, one of another secret would be replaced
        assert cookies(given) == {given}


def test_counts_are_those_of_all_processes(shared: Server) -> None:
    with askers(shared) as all_ports:
        before = counter(shared, "discoverd_dns_udp_queries_total")
        for _ in range(10):
            all_ports.ask("web.docker")
        assert counter(shared, "discoverd_dns_udp_queries_total") == before + 10 * PORTS


def test_a_transfer_is_whole_from_any_worker(shared: Server) -> None:
    for _ in range(8):
        assert shared.dig("docker", "AXFR").addresses == {"192.0.2.1", "127.0.0.1"}


def test_all_end_when_told_to(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        pids = wait_for_workers(server)
        for pid in pids:  # a service manager tells all of them
            os.kill(pid, signal.SIGTERM)
        assert server.terminate() == 0
        assert not any(map(is_running, pids))
        assert "is replaced" not in server.log_text


def test_all_end_when_the_main_process_is_killed(tmp_path: Path) -> None:
    server = Server(tmp_path, "--workers", str(WORKERS), config=CONFIG)
    server.wait_listening()
    pids, port = wait_for_workers(server), server.dns_port
    server.process.kill()
    server.process.wait()
    until(lambda: not any(map(is_running, pids)), message="the workers have ended")
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))


def test_two_servers_do_not_share_a_port_by_accident(shared: Server, tmp_path: Path) -> None:
    second = Server(tmp_path, "--workers", "2", listen=f"127.0.0.1:{shared.dns_port}", config=CONFIG)
    assert second.process.wait(60) == 1
    assert "Address already in use" in second.log_text


def test_what_is_not_ours_is_forwarded_by_every_worker(shared: Server, tmp_path: Path) -> None:
    upstream = f"127.0.0.1:{shared.dns_port}"
    flags = ("--domain", "near", "--upstream", upstream, "--allow-recursion", "127.0.0.0/8")
    with serving(tmp_path, *flags) as server, askers(server) as all_ports:
        assert all_ports.addresses("web.docker") == {("192.0.2.1",)}


def test_a_worker_started_by_hand_ends_at_once() -> None:
    """Its parent is not who it should be: nobody would tell it anything."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "discoverd.workers", str(theirs.fileno()), "1"]
        done = subprocess.run(
            command,
            cwd=REPO,
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
