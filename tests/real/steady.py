"""Questions at a steady rate from a process of its own, and what became of each: none may be lost.

    python -m tests.real.steady ADDRESS PORT NAME RATE

It says "asking" once there is a first answer, asks until its input ends, waits for what is still to
come, and prints {"sent": ..., "lost": ..., "wrong": ...}.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dnslib import DNSRecord

from tests.real.debian import REPO
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterable

#: linux: SO_RCVBUF beyond what the machine allows, for root.
SO_RCVBUFFORCE = 33
#: Octets; all answers of some seconds may come at once.
BUFFER = 32 * 1024 * 1024
#: Seconds without any answer after which what is missing counts as lost.
PATIENCE = 10.0


@dataclass
class Count:
    sent: int
    lost: int
    wrong: int


class Steady:
    """A running asker; :meth:`end` says how it went."""

    def __init__(self, prefix: Iterable[str], address: str, port: int, name: str, rate: int) -> None:
        command = [*prefix, sys.executable, "-m", "tests.real.steady", address, str(port), name, str(rate)]
        self._process = subprocess.Popen(
            command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        said = self._process.stdout.readline()
        assert said == "asking\n", said

    def end(self) -> Count:
        said, _ = self._process.communicate(timeout=120)
        return Count(**json.loads(said))

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


class Asker:
    def __init__(self, address: str, port: int, name: str, rate: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self.sock.connect((address, port))
        self.question = bytes(DNSRecord.question(name).pack())[2:]
        self.pause = 1 / rate
        self.pending: set[int] = set()
        self.count = Count(0, 0, 0)
        self.heard = time.monotonic()

    def ask(self) -> None:
        ident = self.count.sent % 65536
        self.count.sent += 1
        self.count.lost += ident in self.pending
        self.pending.add(ident)
        with contextlib.suppress(OSError):  # nobody listens, says ICMP: then there is no answer either
            self.sock.send(ident.to_bytes(2, "big") + self.question)

    def hear(self) -> None:
        while True:
            try:
                reply = self.sock.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                continue
            self.heard = time.monotonic()
            self.pending.discard(int.from_bytes(reply[:2], "big"))
            # NOERROR, and one answer
            self.count.wrong += (reply[3] & 15, reply[6:8]) != (0, b"\0\1")

    def run(self) -> None:
        due, said = time.monotonic(), False
        while True:
            readable, _, _ = select.select([self.sock, sys.stdin], [], [], max(0, due - time.monotonic()))
            if sys.stdin in readable:
                break
            self.hear()
            if self.count.sent > len(self.pending) and not said:
                said = True
                sys.stdout.write("asking\n")
                sys.stdout.flush()
            while due <= time.monotonic():
                self.ask()
                due += self.pause
        self.heard = time.monotonic()
        until(self._over, timeout=60)
        self.count.lost += len(self.pending)
        sys.stdout.write(json.dumps(vars(self.count)))

    def _over(self) -> bool:
        self.hear()
        return not self.pending or time.monotonic() - self.heard > PATIENCE


if __name__ == "__main__":
    Asker(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])).run()
