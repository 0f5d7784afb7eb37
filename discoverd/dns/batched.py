"""UDP, many datagrams at a time: what is kept goes out as it lies there, the rest is put together.

Beside it, :mod:`.lone` answers what comes alone or in small numbers, and :mod:`.levels` finds what is kept.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from itertools import accumulate, repeat
from typing import TYPE_CHECKING, Final

from discoverd.dns import lone, mmsg
from discoverd.dns.hits import UNCOUNTED
from discoverd.dns.levels import KEYED_MOST, Levels, some, spread
from discoverd.dns.misses import Misses
from discoverd.dns.mmsg import (
    CONTROL_SLOT,
    ID_AT,
    ID_SIZE,
    KEYED,
    NAME_SLOT,
    OVERFLOW,
    PLACE,
    QUERY_AT,
    SLOT,
)
from discoverd.dns.observer import SLOW, clock
from discoverd.dns.outbox import Outbox
from discoverd.dns.udp import CMSG_HEADER, IN6_PKTINFO, IN_PKTINFO, UdpEndpoint
from discoverd.eventloop import read_directly

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from discoverd.dns.fastpath import Missed
    from discoverd.dns.handler import Handler
    from discoverd.dns.observer import Times
    from discoverd.dns.udp import Ancillary, Forward, Peer

log = logging.getLogger("discoverd.dns")

#: The PLACE of no reply at all.
NOWHERE: Final = bytes(PLACE.size)
#: Which questions others are asked: none.
NOTHING: Final[frozenset[int]] = frozenset()


class BatchedEndpoint(UdpEndpoint):
    """One UDP socket being served, many datagrams at a time.

    What is kept is found by :class:`.Levels`; the rest is put together here, or left to the handler.
    """

    def __init__(
        self, sock: socket.socket, handler: Handler, forward: Forward, times: Times | None = None
    ) -> None:
        """``times`` is told how long answers took that come alone."""
        super().__init__(sock, handler, forward)
        self._six = sock.family == socket.AF_INET6
        pktinfo = IN6_PKTINFO.size if self._six else IN_PKTINFO.size
        self._control = 0 if self._bound else socket.CMSG_SPACE(pktinfo)
        self._batch = mmsg.Batch(sock, control=self._control)
        self._levels = Levels(handler.fastpath, self._batch, six=self._six)
        self._lone = lone.answering(self._batch, handler.fastpath, times)
        self._place_few = lone.placing(self._batch, handler.fastpath)
        self._linger = lone.lingering(self._batch, self._lone, self._place_few, times)
        self._pace = lone.Pace()
        self._hits = handler.fastpath.hits
        outbox = Outbox(sock, handler.observer, control=self._control)
        self._outbox = outbox
        self._misses = Misses(handler.asks, outbox) if handler.asks is not None else None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        # each call says that it does not wait, but for the one that is to
        os.set_blocking(self.sock.fileno(), True)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, mmsg.WAIT)
        read_directly(loop, self.sock.fileno(), self.drain, self._drain_and_linger)

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        super().stop(loop)
        # who else has this socket may be a version that relies on it
        os.set_blocking(self.sock.fileno(), False)

    def drain(self) -> None:
        self._drain_one()

    def _drain_one(self) -> bool:
        """Answer what is there; whether it was one datagram, to which a reply was ready."""
        taken = self._batch.receive()
        if taken == 1 and not self.load.since and self._answer_lone():
            return True
        self._answer_all(taken)
        return False

    def _drain_and_linger(self) -> None:
        """The same, and wait for what comes next where that will be soon."""
        if not self._drain_one():
            return
        began = clock()
        if not self._pace.is_quick(began) or (self._misses is not None and self._misses.under_way):
            return
        answered, sent, left = self._linger(began + lone.LINGER)
        self.fast += answered
        self.dropped += answered - sent
        if left > 0:
            self._answer_all(left)
        self._pace.waited(clock(), silent=left == lone.SILENCE)

    def _answer_all(self, taken: int) -> None:
        """Answer so many that were received, and what has come meanwhile."""
        end = self.load.begin()
        count = 0
        while True:
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
            taken = self._batch.receive()

    @property
    def lost_replies(self) -> int:
        return self.dropped + self._outbox.dropped

    def _answer_batch(self, count: int) -> None:
        batch, levels, retired = self._batch, self._levels, self._handler.fastpath.retired
        if retired:
            retired.clear()
        if count <= mmsg.FEW and self._place_few(count):
            self.fast += count
            self.dropped += batch.send(0, count)
            return
        holes = levels.take(count)
        self.fast += count - len(holes)
        silent = self._put_safely_together(holes) if holes else ()
        places = levels.places
        self._hits.add(batch.place(places, count))
        levels.forget()
        first = 0
        for hole in silent:
            if first < hole:
                self.dropped += batch.send(first, hole)
            first = hole + 1
        self.dropped += batch.send(first, count)

    def _answer_lone(self) -> bool:
        """Answer a batch of one from what is kept exactly."""
        sent = self._lone()
        if sent is None:
            return False
        self.fast += 1
        self.dropped += not sent
        return True

    def _put_safely_together(self, missed: Sequence[int]) -> Sequence[int]:
        """The same where something is wrong with us: that costs no reply that was found."""
        try:
            return self._put_together(missed)
        except Exception:
            log.exception("no answer to %d questions that came together", len(missed))
            for i in missed:
                self._levels.replies[i] = NOWHERE
            return missed

    def _put_together(self, missed: Sequence[int]) -> Sequence[int]:
        """Answer queries that nothing is ready for; returns which of the datagrams get no reply now."""
        levels = self._levels
        keys, lengths = some(levels.keys, missed), some(levels.lengths, missed)
        if min(lengths) >= ID_SIZE and max(lengths) <= KEYED_MOST:
            queries = [key[: length - ID_SIZE] for key, length in zip(keys, lengths, strict=True)]
        else:
            queries = list(map(self._query, keys, lengths, missed))
        askers, known = spread(levels.askers, missed), spread(levels.known, missed)
        elsewhere: list[Missed] = []
        fastpath, load = self._handler.fastpath, self.load
        made, shed, began = fastpath.made, load.shed, clock()
        answers = fastpath.vary(queries, known, elsewhere, anew=not load.shedding)
        slow, made = answers.count(None), fastpath.made - made
        self.fast += len(answers) - slow - made
        if made:  # the resolver's work, wherever it is called from
            self.slow += made
            self._handler.observer.times[SLOW].add(clock() - began, made)
        asked = self._ask_others(elsewhere, missed) if elsewhere and not load.shedding else NOTHING
        if len(asked) == len(missed):  # as where everything is others': there is nothing to lay out
            for i in missed:
                levels.replies[i] = NOWHERE
            return missed
        if slow > len(asked):  # only now is it worth knowing who asked, and where
            answers = [
                self._answer_slowly(self._id(i) + query, self._peer(i), self._ancillary(i))
                if answer is None
                and number not in asked
                and (not load.shedding or load.admits(askers[number]))
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
        for i, place in zip(missed, map(PLACE.pack, starts, sizes, repeat(UNCOUNTED)), strict=False):
            levels.replies[i] = place
        return [i for i, answer in zip(missed, answers, strict=True) if answer is None] if slow else []

    def _ask_others(self, elsewhere: list[Missed], missed: Sequence[int]) -> AbstractSet[int]:
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
        return [(level, kind, raw[CMSG_HEADER:size])]
