"""UDP: one socket drained on the event loop, answers leaving from the address that was asked.

asyncio's datagram transport costs several times as much a packet: a callback, an address tuple
and a system call through two layers for each. Where the machine has recvmmsg and sendmmsg,
:class:`BatchedEndpoint` takes and answers many packets at once; elsewhere :class:`UdpEndpoint`.
"""

from __future__ import annotations

import socket
import struct
from itertools import accumulate, repeat
from operator import getitem, itemgetter
from typing import TYPE_CHECKING, Final, TypeVar

from discoverd.dns import mmsg
from discoverd.dns.handler import Foreign
from discoverd.dns.hits import UNCOUNTED
from discoverd.dns.misses import Misses
from discoverd.dns.mmsg import CONTROL_SLOT, ID_AT, ID_SIZE, KEYED, NAME_SLOT, OVERFLOW, PLACE, QUERY_AT, SLOT
from discoverd.dns.observer import UDP, clock
from discoverd.dns.outbox import Outbox
from discoverd.dns.overload import Load

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from discoverd.dns.fastpath import Missed
    from discoverd.dns.handler import Handler

    Forward = Callable[[Foreign, Callable[[bytes], None]], None]

#: Octets of the largest query that is read; anything longer is no question.
LARGEST_QUERY: Final = 4096
#: Socket buffers in octets: a burst of some thousand queries waits instead of being lost.
BUFFER: Final = 4 * 1024 * 1024

#: ip(7); the socket module has had it since Python 3.14 only.
IP_PKTINFO: Final = 8
_IN_PKTINFO: Final = struct.Struct("@i4s4s")
_IN6_PKTINFO: Final = struct.Struct("@16si")
_CMSG_HEADER: Final = socket.CMSG_LEN(0)
_ANCILLARY_SPACE: Final = socket.CMSG_SPACE(max(_IN_PKTINFO.size, _IN6_PKTINFO.size))

K = TypeVar("K")
V = TypeVar("V")
Peer = tuple[str, int] | tuple[str, int, int, int]
Ancillary = list[tuple[int, int, bytes]]

#: Which questions others are asked: none.
NOTHING: Final[frozenset[int]] = frozenset()


def bind(family: int, host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound, non-blocking UDP socket; on a wildcard address it says where each packet was sent to
    (RFC 3542, ip(7)). ``shared``: beside others on the same port (SO_REUSEPORT). Raises OSError.
    """
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        prepare(sock, host)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def prepare(sock: socket.socket, host: str) -> None:
    """Have a socket say where each packet was sent to, where that can be several addresses."""
    if is_wildcard(host):
        level, option = (
            (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO)
            if sock.family == socket.AF_INET6
            else (socket.IPPROTO_IP, IP_PKTINFO)
        )
        sock.setsockopt(level, option, 1)


def is_wildcard(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def asked_address(ancillary: Ancillary) -> str | None:
    """The address a packet was sent to, from its control data."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            return socket.inet_ntop(socket.AF_INET, _IN_PKTINFO.unpack_from(data)[2])
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return socket.inet_ntop(socket.AF_INET6, _IN6_PKTINFO.unpack_from(data)[0])
    return None


class UdpEndpoint:
    """One UDP socket being served, a datagram at a time. ``fast``, ``slow`` and ``dropped`` count."""

    def __init__(self, sock: socket.socket, handler: Handler, forward: Forward) -> None:
        self.sock, self._handler, self._forward = sock, handler, forward
        self._bound = None if is_wildcard(sock.getsockname()[0]) else str(sock.getsockname()[0])
        self.fast = self.slow = self.dropped = 0
        self.load = Load(sock)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self.sock.fileno(), self.drain)

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer what has arrived and take no more; replies that are under way may still leave."""
        if loop.remove_reader(self.sock.fileno()):
            self.drain()

    def close(self) -> None:
        self.sock.close()

    @property
    def lost_replies(self) -> int:
        """Those that the kernel did not take."""
        return self.dropped

    def drain(self) -> None:
        """Answer what is there, for as long as a turn lasts."""
        end = self.load.begin()
        count = 0
        while (now := clock()) < end:
            count += 1
            try:
                packet, ancillary, _flags, peer = self.sock.recvmsg(LARGEST_QUERY, _ANCILLARY_SPACE)
            except (BlockingIOError, InterruptedError):
                self.load.emptied()
                return
            except OSError:
                continue  # an ICMP error of an earlier reply; the next read goes on
            reply = self._answer(packet, peer, ancillary)
            if reply is not None:
                self._send(packet[:2] + reply, ancillary, peer)
        self.load.left_over(now, count)

    def _answer(self, packet: bytes, peer: Peer, ancillary: Ancillary) -> bytes | None:
        """The reply behind its id: by a ring, else by the handler."""
        handler = self._handler
        store = handler.fastpath.askers.get(peer[0])
        if store is not None:
            reply = handler.fastpath.reply(store, packet, peer[0])
            if reply is not None:
                self.fast += 1
                return reply
        if self.load.shedding and not self.load.admits(peer[0]):
            self.slow += 1
            return None
        return self._answer_slowly(packet, peer, ancillary)

    def _answer_slowly(self, packet: bytes, peer: Peer, ancillary: Ancillary) -> bytes | None:
        """The handler's reply behind its id; None where there is none (yet)."""
        self.slow += 1
        handler = self._handler
        own = self._bound or asked_address(ancillary)
        store = handler.fastpath.askers.get(peer[0]) or handler.place(peer[0], own)
        began = clock()
        full = handler.handle(packet, store, own, peer[0])
        if isinstance(full, Foreign):
            seen = handler.observer.later(UDP, store, peer[:2], began)
            self._forward(full, lambda answer: self._send(seen(answer), ancillary, peer))
            return None
        handler.observer.saw(UDP, full, store, peer[:2], began)
        return full[2:] if full is not None else None

    def _send(self, reply: bytes, ancillary: Ancillary, peer: Peer) -> None:
        try:
            self.sock.sendmsg((reply,), ancillary, 0, peer)
        except (OSError, ValueError):
            self.dropped += 1


class BatchedEndpoint(UdpEndpoint):
    """The same, many datagrams at a time.

    A batch is worked on in stages, each a single pass in C over all of its datagrams: cut out
    the keys, find the rings, take the next reply of each, hand addresses and sizes to the
    kernel. Datagram by datagram the same work takes twice as long, because then the processor
    waits for the memory of one ring before it begins to look for the next.
    """

    def __init__(self, sock: socket.socket, handler: Handler, forward: Forward) -> None:
        super().__init__(sock, handler, forward)
        self._six = sock.family == socket.AF_INET6
        pktinfo = _IN6_PKTINFO.size if self._six else _IN_PKTINFO.size
        self._control = 0 if self._bound else socket.CMSG_SPACE(pktinfo)
        self._batch = mmsg.Batch(sock, control=self._control)
        self._hits = handler.fastpath.hits
        outbox = Outbox(sock, handler.observer, control=self._control)
        self._outbox = outbox
        self._misses = Misses(handler.asks, outbox) if handler.asks is not None else None

    def drain(self) -> None:
        end = self.load.begin()
        count = 0
        while True:
            taken = self._batch.receive()
            count += taken
            if taken:
                self._answer_batch(taken)
            if taken < mmsg.BATCH:
                if self.load.since:
                    self.load.emptied()
                return
            if (now := clock()) >= end:
                self.load.left_over(now, count)
                return

    @property
    def lost_replies(self) -> int:
        return self.dropped + self._outbox.dropped

    def _answer_batch(self, count: int) -> None:
        batch, exact = self._batch, self._handler.fastpath.exact
        keys = batch.keys(count)
        if batch.one_asker(count):  # one lookup does for all of them, which saves a fifth
            rings = _each(exact[self._askers(1)[0]], keys)
        else:
            rings = list(map(getitem, _each(exact, self._askers(count)), keys))
        replies: list[bytes] = list(map(next, rings))
        places = b"".join(replies)
        silent: Sequence[int] = ()
        missed = count - len(places) // PLACE.size
        self.fast += count - missed
        if missed:
            silent = self._fill_holes(replies, keys)
            places = b"".join(replies)
        self._hits.add(batch.place(places, count, whole=not missed))
        first = 0
        for hole in silent:
            self.dropped += batch.send(first, hole)
            first = hole + 1
        self.dropped += batch.send(first, count)

    def _askers(self, count: int) -> list[int] | list[bytes]:
        if not self._six:
            return self._batch.addresses[:count].tolist()
        raw = bytes(self._batch.sockaddrs[: NAME_SLOT * count])
        return [raw[at : at + 16] for at in range(8, NAME_SLOT * count, NAME_SLOT)]

    def _fill_holes(self, replies: list[bytes], keys: Sequence[bytes]) -> Sequence[int]:
        """Answer what is not kept exactly; returns which datagrams get no reply now."""
        fastpath, askers = self._handler.fastpath, self._askers(len(replies))
        lengths = self._batch.lengths[: len(replies)].tolist()
        missed = [i for i, reply in enumerate(replies) if not reply]
        # a class, or an OPT record without options, ends in a small number; a cookie hardly ever does
        short = max(lengths) <= KEYED + ID_SIZE
        if short and (tried := [i for i in missed if keys[i][lengths[i] - 3] < 2]):
            placed = [fastpath.placed.get(askers[i]) for i in tried]
            before = len(missed)
            for i, place in zip(tried, fastpath.pieces([keys[i] for i in tried], placed), strict=True):
                replies[i] = place
            missed = [i for i in missed if not replies[i]]
            self.fast += before - len(missed)
        if not missed:
            return ()
        if short and min(lengths) >= ID_SIZE:
            queries = [keys[i][: lengths[i] - ID_SIZE] for i in missed]
        else:
            queries = [self._query(keys[i], lengths[i], i) for i in missed]
        return self._put_together(replies, missed, queries, askers)

    def _put_together(
        self,
        replies: list[bytes],
        missed: list[int],
        queries: list[bytes],
        askers: Sequence[int | bytes],
    ) -> list[int]:
        """Answer queries that nothing is ready for; returns which of the datagrams get no reply now."""
        fastpath = self._handler.fastpath
        placed = [fastpath.placed.get(askers[i]) for i in missed]
        elsewhere: list[Missed] = []
        answers = fastpath.vary(queries, placed, elsewhere)
        slow = answers.count(None)
        self.fast += len(answers) - slow
        load, shed = self.load, self.load.shed
        asked = self._ask_others(elsewhere, missed) if elsewhere and not load.shedding else NOTHING
        if slow > len(asked):  # only now is it worth knowing who asked, and where
            answers = [
                self._answer_slowly(self._id(i) + query, self._peer(i), self._ancillary(i))
                if answer is None and number not in asked and (not load.shedding or load.admits(askers[i]))
                else answer
                for number, (i, query, answer) in enumerate(zip(missed, queries, answers, strict=True))
            ]
            self.slow += load.shed - shed
        # they are laid out one after the other, and sent from there
        octets = [answer or b"" for answer in answers]
        whole = b"".join(octets)
        self._batch.replies[: len(whole)] = whole
        sizes = list(map(len, octets))
        starts = accumulate(sizes, initial=self._batch.replies_at)
        none = repeat(0)
        places = map(PLACE.pack, starts, sizes, none, none, none, repeat(UNCOUNTED))
        for i, place in zip(missed, places, strict=False):
            replies[i] = place
        return [i for i, answer in zip(missed, answers, strict=True) if answer is None] if slow else []

    def _ask_others(self, elsewhere: list[Missed], missed: list[int]) -> AbstractSet[int]:
        """Have others asked what is theirs; which questions are seen to by that."""
        if self._misses is None:
            return NOTHING
        batch = self._batch
        controls = bytes(batch.control_data) if self._control else b""
        batched = batch.ids.tobytes(), bytes(batch.sockaddrs), controls
        taken = self._misses.take(elsewhere, missed, batched, clock())
        self.slow += len(taken)
        return taken

    def _query(self, key: bytes, length: int, i: int) -> bytes:
        """A query behind its id, with what ran over; nothing where there is not even an id."""
        if ID_SIZE <= length <= KEYED + ID_SIZE:
            return key[: length - ID_SIZE]
        over, more = OVERFLOW * i, max(0, length - ID_SIZE - KEYED)
        return key[: KEYED if more else 0] + bytes(self._batch.overflows[over : over + more])

    def _id(self, i: int) -> bytes:
        return bytes(self._batch.queries[SLOT * i + ID_AT : SLOT * i + QUERY_AT])

    def _peer(self, i: int) -> Peer:
        raw = bytes(self._batch.sockaddrs[NAME_SLOT * i : NAME_SLOT * (i + 1)])
        port = int.from_bytes(raw[2:4], "big")
        if self._six:
            flow, scope = struct.unpack("=I", raw[4:8])[0], struct.unpack("=I", raw[24:28])[0]
            return socket.inet_ntop(socket.AF_INET6, raw[8:24]), port, socket.ntohl(flow), scope
        return socket.inet_ntop(socket.AF_INET, raw[4:8]), port

    def _ancillary(self, i: int) -> Ancillary:
        if not self._control:
            return []
        raw = bytes(self._batch.control_data[CONTROL_SLOT * i : CONTROL_SLOT * (i + 1)])
        size, level, kind = struct.unpack_from("@Nii", raw)
        return [(level, kind, raw[_CMSG_HEADER:size])]


def _each(held: Mapping[K, V], keys: Sequence[K]) -> Sequence[V]:
    """``held[key]`` for each of the keys, of which there is one at least: 40 ns less each than ``get``."""
    return itemgetter(*keys)(held) if len(keys) > 1 else (held[keys[0]],)
