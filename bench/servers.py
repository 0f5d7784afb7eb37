"""Servers while they run: started on one core, asked whether they answer right, stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from bench.tools import ROOT, BenchError, cpu_seconds, family, pinned, prioritise_session, resident_bytes

if TYPE_CHECKING:
    from bench.catalog import Catalog
    from bench.peers import Peer

#: Seconds that a server may take until it answers (Consul's first sync of 3,000 instances is the slowest).
START_SECONDS = 120
#: Seconds that a server may take to end before it is killed.
STOP_SECONDS = 10
#: Names that are asked before each measurement, spread over the catalog.
SAMPLE = 25
HOST = "127.0.0.1"


def free_port() -> int:
    """A port that is free for UDP and TCP, with a few free ones above it for servers that need more."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind((HOST, 0))
            port = int(udp.getsockname()[1])
            if port > 65000:
                continue
            try:
                for above in range(5):
                    with socket.socket() as tcp:
                        tcp.bind((HOST, port + above))
            except OSError:
                continue
            return port


class Server:
    """One peer that serves one catalog. A context manager; leaving it ends every process of it."""

    def __init__(self, peer: Peer, catalog: Catalog, core: int, nice: int) -> None:
        self.peer, self.catalog = peer, catalog
        self._home = tempfile.TemporaryDirectory(prefix=f"bench-{peer.name.split(',')[0]}-")
        home = Path(self._home.name)
        self.port = free_port()
        self._log = (home / "output").open("w+")
        command = peer.prepare(home, self.port, catalog)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DISCOVERD_")}
        self.process = pinned(
            command, core, nice, cwd=ROOT, env=environment, stdout=self._log, stderr=self._log
        )
        self.pid = self.process.pid
        started = time.monotonic()
        try:
            if peer.pid_file:
                self.process.wait(START_SECONDS)
                self.pid = int((home / peer.pid_file).read_text())
                prioritise_session(self.pid, nice)
            self._wait()
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - started

    def _wait(self) -> None:
        patience = time.monotonic() + START_SECONDS
        while (fault := self.fault(sample=3, timeout=0.25)) is not None:
            if self.pid == self.process.pid and self.process.poll() is not None:
                raise BenchError(f"{self.peer.name} ended at its start: {self.output()}")
            if time.monotonic() > patience:
                raise BenchError(f"{self.peer.name} does not answer right: {fault}; {self.output()}")
            time.sleep(0.05)

    def output(self) -> str:
        """The last thing it printed."""
        self._log.flush()
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        return lines[-1] if lines else "it printed nothing"

    def fault(self, sample: int = SAMPLE, timeout: float = 2) -> str | None:
        """What is wrong with its answers to a sample of the catalog's names; None if nothing is."""
        if not self.peer.programs and self.peer.name.startswith("C,"):
            return self._ask(0, timeout, exact=False)
        step = max(1, self.catalog.services // sample)
        for number in range(0, self.catalog.services, step):
            fault = self._ask(number, timeout, exact=True)
            if fault is not None:
                return fault
        return None

    def _ask(self, number: int, timeout: float, *, exact: bool) -> str | None:
        name = f"{self.catalog.name(number)}.{self.peer.suffix}"
        query = dns.message.make_query(name, dns.rdatatype.A)
        try:
            reply = dns.query.udp(query, HOST, timeout, self.port)
        except (dns.exception.DNSException, OSError) as error:
            return f"{name}: {type(error).__name__}"
        if reply.rcode() != dns.rcode.NOERROR or reply.flags & dns.flags.TC:
            return f"{name}: {dns.rcode.to_text(reply.rcode())}"
        found = sorted(str(r) for rrset in reply.answer for r in rrset if r.rdtype == dns.rdatatype.A)
        expected = sorted(self.catalog.addresses(number))
        if found != expected if exact else len(found) != len(expected):
            return f"{name}: {', '.join(found) or 'no address'} instead of {', '.join(expected)}"
        return None

    def cpu(self) -> tuple[float, float]:
        """User and system seconds so far."""
        return cpu_seconds(self.pid)

    def processes(self) -> int:
        return len(list(family(self.pid)))

    def memory(self) -> int:
        """Octets."""
        return resident_bytes(self.pid)

    def signal(self, *numbers: int) -> None:
        """Send it signals; one that has ended gets none."""
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _ended(self) -> bool:
        if self.pid == self.process.pid:
            return self.process.poll() is not None
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state == "Z"  # it went into the background, and whoever adopted it has not noticed yet

    def stop(self) -> None:
        """End it; what does not end in time is killed."""
        self.signal(signal.SIGCONT, signal.SIGTERM)
        patience = time.monotonic() + STOP_SECONDS
        while not self._ended() and time.monotonic() < patience:
            time.sleep(0.01)
        if not self._ended():
            self.signal(signal.SIGKILL)
        self.process.wait()
        self._log.close()
        self._home.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
