"""Log entries as lines of text or JSON. Pure."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from discoverd.querylog.entry import TRUNCATED, address_of, question_of, rcode_of

if TYPE_CHECKING:
    from discoverd.dns.observer import Entry


def as_text(entry: Entry) -> bytes:
    """``2026-01-31T12:00:00.000Z 172.18.0.3#41234 udp A web.docker. NOERROR 3 87us 76``, and flags."""
    when, took, protocol, peer, _, reply, forwarded = entry
    address, port = address_of(peer)
    asked = question_of(reply)
    answers = int.from_bytes(reply[6:8], "big")
    flags = " truncated" * bool(reply[2] & TRUNCATED) + " forwarded" * forwarded
    line = (
        f"{_time(when)} {address}#{port} {protocol} {asked.type} {asked.name} {rcode_of(reply)}"
        f" {answers} {took // 1000}us {len(reply)}{flags}\n"
    )
    return line.encode()


def as_json(entry: Entry) -> bytes:
    """One object a line."""
    when, took, protocol, peer, _, reply, forwarded = entry
    address, port = address_of(peer)
    asked = question_of(reply)
    fields = {
        "time": _time(when),
        "client": address,
        "port": port,
        "protocol": protocol,
        "type": asked.type,
        "name": asked.name,
        "rcode": rcode_of(reply),
        "answers": int.from_bytes(reply[6:8], "big"),
        "microseconds": took // 1000,
        "octets": len(reply),
        "truncated": bool(reply[2] & TRUNCATED),
        "forwarded": forwarded,
    }
    return json.dumps(fields).encode() + b"\n"


def _time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 10**6:03}Z"
