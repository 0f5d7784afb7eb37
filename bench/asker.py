"""``python -m bench.asker HOST PORT NAME``: asks for a name all the time, and says when its addresses change.

A line for each change: when the question was sent and when its answer came, in Unix nanoseconds, and the
addresses. No answer at all is as none. A process of its own, so that it can stand in a container's network.
"""

from __future__ import annotations

import socket
import sys
import time
from typing import Final

import dns.message
import dns.rdatatype

#: Seconds between two questions: what the figures are exact to, beside an answer's own time.
GAP: Final = 0.0005
#: Seconds without an answer after which there is none.
PATIENCE: Final = 0.25


def addresses(reply: bytes) -> list[str]:
    answer = dns.message.from_wire(reply).answer
    return sorted(str(r) for rrset in answer for r in rrset if r.rdtype == dns.rdatatype.A)


def ask(host: str, port: int, name: str) -> None:
    last, known = b"?", ["?"]
    query = bytearray(dns.message.make_query(name, "A").to_wire())
    number = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(PATIENCE)
        asker.connect((host, port))
        while True:
            number = (number + 1) & 0xFFFF
            query[:2] = number.to_bytes(2)
            sent = time.time_ns()
            reply = b""
            try:
                asker.send(query)
                while (reply := asker.recv(4096))[:2] != query[:2]:
                    pass
            except OSError:
                reply = b""
            came = time.time_ns()
            if reply[2:] != last:
                last = reply[2:]
                found = addresses(reply) if reply else []
                if found != known:
                    known = found
                    print(sent, came, ",".join(found), flush=True)
            time.sleep(GAP)


if __name__ == "__main__":
    ask(sys.argv[1], int(sys.argv[2]), sys.argv[3])
