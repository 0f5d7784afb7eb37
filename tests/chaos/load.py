"""Questions to several servers at a steady rate, in a process of its own, and what must never be the answer.

    python -m tests.chaos.load RATE NAME=ADDRESS:PORT ...

Each line of its input is the present truth: {server: {"must", "may", "ids", "kind"}, "blind": [...]}.
Each line of its output is something that must not have been; at the end comes what was counted.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from collections import Counter
from typing import Any, Final

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

from tests.chaos.rules import Rules

#: Seconds between two rounds of questions.
TICK: Final = 0.01
#: linux: SO_RCVBUF beyond what the machine allows, for root.
SO_RCVBUFFORCE: Final = 33
BUFFER: Final = 8 * 1024 * 1024
#: Different replies that are remembered, so that each is read once.
READ_MOST: Final = 20_000

Read = tuple[int, str, frozenset[str]]


class Asker:
    """One server: what was asked of it and is not answered, and how often."""

    def __init__(self, name: str, address: str, port: int) -> None:
        self.name = name
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self.sock.connect((address, port))
        self.pending: dict[int, str] = {}
        self.questions: list[tuple[str, bytes]] = []
        self.number = 0
        self.counts: Counter[str] = Counter()
        self.excused = False

    def know(self, names: list[str]) -> None:
        if [name for name, _ in self.questions] != names:
            self.questions = [(name, dns.message.make_query(name, "A").to_wire()[2:]) for name in names]

    def ask(self) -> None:
        ident, self.number = self.number % 65536, self.number + 1
        name, question = self.questions[self.number % len(self.questions)]
        if ident in self.pending and not self.excused:
            self.counts["lost"] += 1
        self.pending[ident] = name
        try:
            self.sock.send(ident.to_bytes(2, "big") + question)
        except OSError:  # nobody listens, says ICMP
            self.counts["refused"] += 1
        self.counts["asked"] += 1


def read(data: bytes) -> Read:
    """A reply behind its id: rcode, the question's name, addresses. Raises dns.exception.DNSException."""
    reply = dns.message.from_wire(b"\0\0" + data)
    (question,) = reply.question
    addresses = [str(r) for rrset in reply.answer for r in rrset if r.rdtype == dns.rdatatype.A]
    return int(reply.rcode()), question.name.to_text(omit_final_dot=True), frozenset(addresses)


class Load:
    def __init__(self, rate: int, askers: list[Asker]) -> None:
        self._per_tick = rate * TICK / len(askers)
        self._askers = askers
        self._rules = {asker.name: Rules(asker.name, denied_once=asker.name == "steady") for asker in askers}
        self._read: dict[bytes, Read] = {}
        self._input = b""

    def run(self) -> None:
        due, owed = time.monotonic(), 0.0
        while self._listen():
            due += TICK
            owed += self._per_tick
            for asker in self._askers:
                if asker.questions:
                    for _ in range(int(owed)):
                        asker.ask()
                self._hear(asker)
            owed -= int(owed)
            pause = due - time.monotonic()
            if pause < -1:  # the machine was elsewhere: what was missed is not made up for
                due = time.monotonic()
            select.select([sys.stdin], [], [], max(0.0, pause))
        end = time.monotonic() + 2
        while time.monotonic() < end and any(asker.pending for asker in self._askers):
            select.select([asker.sock for asker in self._askers], [], [], 0.1)
            for asker in self._askers:
                self._hear(asker)
        counts = {a.name: dict(a.counts) | {"unanswered": len(a.pending)} for a in self._askers}
        print(json.dumps({"counts": counts}), flush=True)

    def _listen(self) -> bool:
        """Take in what is new of the truth; False at the end of the input."""
        while select.select([sys.stdin], [], [], 0)[0]:
            if not (data := os.read(0, 1 << 20)):
                return False
            *lines, self._input = (self._input + data).split(b"\n")
            for line in lines[-1:]:
                self._know(json.loads(line))
        return True

    def _know(self, said: dict[str, Any]) -> None:
        now, blind = time.monotonic(), set(said["blind"])
        for asker in self._askers:
            truth = said[asker.name]
            asker.know(sorted(truth["must"]))
            if asker.excused != (asker.name in blind):
                asker.excused = not asker.excused
                asker.pending.clear()
            for fault in self._rules[asker.name].learn(truth, blind, now):
                print(fault, flush=True)

    def _hear(self, asker: Asker) -> None:
        rules, now = self._rules[asker.name], time.monotonic()
        while True:
            try:
                data = asker.sock.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                continue
            name = asker.pending.pop(int.from_bytes(data[:2], "big"), None)
            if name is None:
                asker.counts["late"] += 1
                continue
            rest = data[2:]
            if (found := self._read.get(rest)) is None:
                try:
                    found = read(rest)
                except (dns.exception.DNSException, ValueError) as error:
                    print(f"{asker.name}: malformed reply to {name}: {error!r} {data.hex()}", flush=True)
                    continue
                if len(self._read) > READ_MOST:
                    self._read.clear()
                self._read[rest] = found
            rcode, asked, addresses = found
            asker.counts[dns.rcode.to_text(dns.rcode.Rcode(rcode))] += 1
            if asked != name:
                print(f"{asker.name}: asked for {name}, answered {asked}", flush=True)
            elif fault := rules.check(name, rcode, addresses, now):
                print(fault, flush=True)


def main() -> None:
    askers = []
    for word in sys.argv[2:]:
        name, _, where = word.partition("=")
        address, _, port = where.rpartition(":")
        askers.append(Asker(name, address, int(port)))
    Load(int(sys.argv[1]), askers).run()


if __name__ == "__main__":
    main()
