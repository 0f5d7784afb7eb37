"""Replies of a real Unbound come through as they are, whatever is in them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import dns.message
import pytest

from tests.real.conftest import or_left_out
from tests.real.server import Server
from tests.real.upstreams import unbound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.real.upstreams import Program

TEXTS = " ".join(f'"{"x" * 200}{number}"' for number in range(3))
#: By type; the last ones are of types that nobody knows (RFC 3597).
RECORDS = {
    "A": "192.0.2.1", "AAAA": "2001:db8::1", "MX": "10 mail.example.org.", "TXT": TEXTS,
    "SRV": "1 2 80 www.example.org.", "CAA": '0 issue "ca.example.org"', "PTR": "a.b.example.org.",
    "NAPTR": '1 2 "u" "sip" "!^.*$!sip:x@example.org!" .', "LOC": "52 22 23.000 N 4 53 32.000 E -2.00m 0.00m",
    "SSHFP": "1 1 123456789abcdef67890123456789abcdef67890", "HTTPS": "1 . alpn=h2 ipv4hint=192.0.2.7",
    "TLSA": "3 1 1 123456789abcdef67890123456789abcdef67890123456789abcdef123456789",
    "DS": "60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118", "HINFO": '"PC" "none"',
    "CNAME": "www.example.org.",
    "TYPE65280": r"\# 4 0a000001", "TYPE9999": r"\# 0",
}  # fmt: skip


@pytest.fixture
def resolver(tmp_path: Path) -> Iterator[Program]:
    lines = [f"local-data: '{rtype}.example.org. 300 {rtype} {data}'" for rtype, data in RECORDS.items()]
    soa = "example.org. 600 SOA ns.example.org. root.example.org. 1 3600 600 86400 60"
    with or_left_out():
        made = unbound(
            tmp_path / "unbound", 'local-zone: "example.org." static', f'local-data: "{soa}"', *lines
        )
    with made:
        made.wait_answers("a.example.org")
        yield made


def octets(port: int, packet: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.connect(("127.0.0.1", port))
        sock.send(packet)
        return sock.recv(65535)


def test_replies_are_the_same_octet_by_octet(tmp_path: Path, resolver: Program) -> None:
    server = Server(tmp_path / "discoverd", "--upstream", resolver.where)
    try:
        server.wait_listening()
        for rtype in (*RECORDS, "NS", "TYPE1234"):  # of the last two there are none
            for name in (f"{rtype}.example.org", f"No-{rtype}.Example.org"):
                for edns in (False, 0):
                    asked = dns.message.make_query(name, rtype, use_edns=edns, payload=4096)
                    through, direct = (
                        octets(port, asked.to_wire()) for port in (server.dns_port, resolver.port)
                    )
                    again = octets(server.dns_port, asked.to_wire())
                    if edns is False:  # without OPT nothing may differ
                        assert through == direct, (name, rtype)
                    # AA goes from what is kept, TTLs count down, and OPT is between neighbours
                    kept, given = dns.message.from_wire(again), dns.message.from_wire(direct)
                    assert kept.answer == given.answer, (name, rtype)
                    assert kept.authority == given.authority, (name, rtype)
                    assert kept.rcode() == given.rcode()
        assert "Traceback" not in server.log_text
    finally:
        server.close()
