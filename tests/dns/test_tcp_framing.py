"""However the octets of a connection are cut into pieces, the replies are the same."""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from discoverd.dns import overload, tcp
from discoverd.dns.message import HEADER_SIZE
from discoverd.dns.tcp import Connection, TcpEndpoint
from tests.dns.serving import framed
from tests.dns.test_handler_properties import mangled, queries
from tests.fuzz.invariants import ASKER, OWN, Subject, check


class Transport(asyncio.Transport):
    """Keeps what is written. ``read`` is what the client has read of it: all, or nothing."""

    def __init__(self) -> None:
        super().__init__({"peername": (ASKER, 5), "sockname": (OWN, 53)})
        self.written = b""
        self.closing = self.paused = False

    def write(self, data: Any) -> None:
        assert not self.closing
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == tcp.UNREAD_MOST


SUBJECT = Subject()
#: More than any of them takes.
TRANSFER_TURNS = 100


def frames(octets: bytes) -> list[bytes]:
    """The whole frames in a stream; nothing may stand behind them."""
    found = []
    while octets:
        length = int.from_bytes(octets[:2], "big")
        assert len(octets) >= 2 + length
        found.append(octets[2 : 2 + length])
        octets = octets[2 + length :]
    return found


class Turns(overload.Turns):
    """Whose turns are over at random."""

    def __init__(self, seed: int | None) -> None:
        super().__init__()
        self._random = None if seed is None else Random(seed)

    def over(self) -> bool:
        return self._random is not None and self._random.random() < 0.5

    def all(self) -> None:
        while self._waiting:
            self._waiting.popleft()()


def feed(connection: Connection, piece: bytes, turns: Turns) -> None:
    """As the event loop does: as much at a time as there is room for."""
    while piece and not connection._transport.is_closing():
        room = connection.get_buffer(-1)
        some = piece[: len(room)]
        room[: len(some)] = some
        connection.buffer_updated(len(some))
        turns.all()
        piece = piece[len(some) :]


async def converse(
    pieces: list[bytes], *, stops: frozenset[int] = frozenset(), turns: int | None = None
) -> tuple[bytes, bool]:
    """What is written for these pieces, and whether the connection is closed then.

    Before the pieces in ``stops`` the client stops reading, and reads again at the end. ``turns`` decides
    when the loop has other work.
    """
    with socket.socket() as sock:
        endpoint = TcpEndpoint(sock, SUBJECT.handler, lambda _foreign, _send: None)
        endpoint.limits.turns = shared = Turns(turns)
        connection, transport = Connection(endpoint), Transport()
        connection.connection_made(transport)
        waiting: list[bytes] = []
        for number, piece in enumerate(pieces):
            if number in stops:
                connection.pause_writing()
            if transport.closing:
                break
            if transport.paused:
                waiting.append(piece)  # the kernel keeps it
            else:
                feed(connection, piece, shared)
        if stops and not transport.closing:
            connection.resume_writing()
            shared.all()
            for _ in range(TRANSFER_TURNS):  # a transfer that had begun goes on turn by turn
                if not transport.paused or transport.closing:
                    break
                await asyncio.sleep(0)
                shared.all()
            assert not transport.paused or transport.closing
            for piece in waiting:
                feed(connection, piece, shared)
        connection.connection_lost(None)
        assert endpoint.limits.held == endpoint.limits.connections == 0
        return transport.written, transport.closing


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(octets), *(place % (len(octets) + 1) for place in places)})
    return [octets[a:b] for a, b in pairwise(marks)]


plain = queries().filter(lambda packet: b"\0\xfb\0\1" not in packet and b"\0\xfc\0\1" not in packet)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(plain | mangled() | st.binary(max_size=15), max_size=8),
    st.binary(max_size=5),
    st.lists(st.integers(0, 10_000), max_size=30),
    st.frozensets(st.integers(0, 30), max_size=2),
    st.none() | st.integers(0, 1000),
)
def test_pieces_make_no_difference(
    packets: list[bytes], rest: bytes, places: list[int], stops: frozenset[int], turns: int | None
) -> None:
    octets = b"".join(map(framed, packets)) + rest
    whole, closed = asyncio.run(converse([octets]))
    in_pieces, closed_too = asyncio.run(converse(cut(octets, places), stops=stops, turns=turns))
    assert closed == closed_too
    # the order of records rotates
    assert [r[:12] for r in frames(whole)] == [r[:12] for r in frames(in_pieces)]
    assert [len(r) for r in frames(whole)] == [len(r) for r in frames(in_pieces)]


@settings(max_examples=150, deadline=None)
@given(st.lists(plain, max_size=8), st.none() | st.integers(0, 1000))
def test_every_query_gets_its_reply_in_turn(packets: list[bytes], turns: int | None) -> None:
    written, closed = asyncio.run(converse([b"".join(map(framed, packets))], turns=turns))
    replies = frames(written)
    assert len(replies) == len(packets)
    assert not closed
    for packet, reply in zip(packets, replies, strict=True):
        check(packet, reply, tcp=True)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_octets_are_read(octets: bytes, place: int) -> None:
    written, _ = asyncio.run(converse(cut(octets, [place])))
    assert all(len(reply) >= HEADER_SIZE for reply in frames(written))
