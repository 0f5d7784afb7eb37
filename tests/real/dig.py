"""What the real ``dig`` says, as a value."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.real.debian import need

OUTPUT = ("+noall", "+comments", "+question", "+answer", "+authority", "+additional")


class Record(NamedTuple):
    """One resource record as dig prints it: names in the case they came in, data as text."""

    name: str
    ttl: int
    type: str
    data: str


@dataclass
class Reply:
    """One reply. ``status`` is empty where none came, and ``text`` then says why."""

    text: str
    status: str = ""
    flags: frozenset[str] = frozenset()
    #: What the reply's OPT record advertises; None without one.
    udp_size: int | None = None
    question: str = ""
    answer: list[Record] = field(default_factory=list)
    authority: list[Record] = field(default_factory=list)
    additional: list[Record] = field(default_factory=list)

    @property
    def data(self) -> list[str]:
        """The data of the answers, in their order."""
        return [record.data for record in self.answer]

    @property
    def addresses(self) -> set[str]:
        """The addresses answered, without an order."""
        return {record.data for record in self.answer if record.type in {"A", "AAAA"}}

    @property
    def nodata(self) -> bool:
        """NOERROR without answers, with the SOA that lets a resolver remember it (RFC 2308 section 2.2)."""
        return self.status == "NOERROR" and not self.answer and self._soa

    @property
    def nxdomain(self) -> bool:
        """NXDOMAIN with its SOA."""
        return self.status == "NXDOMAIN" and not self.answer and self._soa

    @property
    def _soa(self) -> bool:
        return any(record.type == "SOA" for record in self.authority)


def dig(server: str, port: int, name: str, rtype: str = "A", *options: str) -> Reply:
    """Ask ``server`` with the real dig, once, and wait at most 5 seconds; ``options`` such as ``+tcp``."""
    command = [need("dig", "bind9-dnsutils"), *OUTPUT, "+tries=1", "+time=5", f"@{server}", "-p", str(port)]
    done = subprocess.run(
        [*command, *options, "-q", name, "-t", rtype],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return parse(done.stdout + done.stderr)


def parse(text: str) -> Reply:
    """Read dig's output, of one reply."""
    reply = Reply(text)
    sections = {"ANSWER": reply.answer, "AUTHORITY": reply.authority, "ADDITIONAL": reply.additional}
    current: list[Record] | None = None
    for line in text.splitlines():
        if found := re.search(r"->>HEADER<<-.* status: (\w+)", line):
            reply.status = found[1]
        elif found := re.match(r";; flags:([^;]*);", line):
            reply.flags = frozenset(found[1].split())
        elif found := re.search(r"EDNS: .*udp: (\d+)", line):
            reply.udp_size = int(found[1])
        elif found := re.match(r";; (\w+) SECTION:", line):
            current = sections.get(found[1])
        elif line.startswith(";") and not line.startswith(";;") and not reply.question and reply.status:
            reply.question = line[1:].split()[0] if line[1:].strip() else ""
        elif line and not line.startswith(";") and current is not None:
            name, ttl, _, rtype, data = line.split(None, 4)
            current.append(Record(name, int(ttl), rtype, data))
    return reply
