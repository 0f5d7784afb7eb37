"""DNS over TCP (RFC 7766): framed, pipelined, bounded in number, in idleness, in memory and in time."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from discoverd.accepting import settled, stop_accepting
from discoverd.dns.fastpath import FORMS
from discoverd.dns.handler import Foreign
from discoverd.dns.limits import Limits
from discoverd.dns.message import HEADER_SIZE, OPT_SIZE
from discoverd.dns.observer import FAST, TCP, clock
from discoverd.dns.options import IDLE_SECONDS
from discoverd.dns.transfer import Transfer
from discoverd.resolver.outcome import AXFR

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from discoverd.dns.handler import Handler

BACKLOG: Final = 1024
READ_MOST: Final = 65_536  # octets read at a time
READ_LITTLE: Final = 512  # the same while the loop is due for other work
#: Octets of queries that have not come in full or may not be answered yet, in all. Each connection
#: may send up to 64 KiB for one query; who goes beyond this is closed.
HELD_MOST: Final = 16 * 1024 * 1024
UNREAD_MOST: Final = 64 * 1024  # octets that wait for a client, above which it is not read any more
#: Transfers under way in all: each holds on to the registry as it was at its beginning.
TRANSFERS_MOST: Final = 8
TURN_SECONDS: Final = 0.001  # of work on transfers before other work of the loop gets its turn
#: Seconds that replies have to leave once the server is told to stop, and that first questions have to come.
LAST_SECONDS: Final = 1.0
COMING_SECONDS: Final = 1.0
LARGEST_GLUE: Final = 281  # octets of an address record with an owner of its own: 255 + 10 + 16
TC_BIT: Final = 0x02  # of octet 2 of the header


class TcpEndpoint:
    """One listening socket and its connections. ``refused`` counts those beyond the limits."""

    def __init__(
        self,
        sock: socket.socket,
        handler: Handler,
        forward: Callable[[Foreign, Callable[[bytes], None]], None],
        limits: Limits | None = None,
    ) -> None:
        self.sock, self.handler, self.forward = sock, handler, forward
        self.limits = limits or Limits()
        self.connections: set[Connection] = set()
        self.refused = 0
        #: What was read last, for as long as it takes to copy it.
        self.buffer = memoryview(bytearray(READ_MOST))
        #: Those with a transfer under way whose client reads: they take turns.
        self._transferring: deque[Connection] = deque()
        self._server: asyncio.Server | None = None
        #: A connection has gone, or its first question has come.
        self.moved = asyncio.Event()

    async def start(self) -> None:
        """Accept connections; once more after a pause."""
        loop = asyncio.get_running_loop()
        # a copy, because a pause closes it: whoever wants to connect then still waits in the other
        sock = self.sock.dup()
        self._server = await loop.create_server(lambda: Connection(self), sock=sock, backlog=BACKLOG)

    def pause(self) -> None:
        """Leave new connections to who else accepts them; those that there are stay."""
        if self._server is not None:
            stop_accepting(self._server)
            self._server = None

    def stop_accepting(self) -> None:
        self.pause()
        self.sock.close()

    async def stop(self) -> None:
        """Close, once the replies that are being written have left or their time is over."""
        self.stop_accepting()
        await settled()
        for connection in tuple(self.connections):
            connection.close()
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self._all_gone()
        except TimeoutError:
            for connection in tuple(self.connections):
                connection.close(at_once=True)
            await self._all_gone()

    async def hear_who_has_come(self) -> None:
        """Give who has connected, and not asked yet, a moment for it."""
        await settled()
        with suppress(TimeoutError):
            async with asyncio.timeout(COMING_SECONDS):
                while any(each.has_yet_to_ask for each in self.connections):
                    self.moved.clear()
                    await self.moved.wait()

    async def _all_gone(self) -> None:
        while self.connections:
            self.moved.clear()
            await self.moved.wait()

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.moved.set()

    def transfer(self, connection: Connection) -> None:
        """Give a connection its turns until it has nothing to send or its client does not read."""
        if not self._transferring:
            asyncio.get_running_loop().call_soon(self._turn)
        self._transferring.append(connection)

    def _turn(self) -> None:
        end = time.monotonic() + TURN_SECONDS
        while self._transferring and time.monotonic() < end:
            if self._transferring[0].transfer_some():
                self._transferring.rotate(-1)
            else:
                self._transferring.popleft()
        if self._transferring:
            asyncio.get_running_loop().call_soon(self._turn)


class Connection(asyncio.BufferedProtocol):
    """One client. Queries are answered as they come; forwarded ones may overtake each other."""

    def __init__(self, endpoint: TcpEndpoint) -> None:
        self._endpoint, self._limits, self._handler = endpoint, endpoint.limits, endpoint.handler
        self._whole_below = endpoint.handler.fastpath.udp_size - OPT_SIZE - LARGEST_GLUE
        #: What has come and is not answered: part of a query, or several while the client is not read.
        self._held = b""
        #: Replies that are under way elsewhere.
        self._waiting = 0
        self._transfer: Transfer | None = None
        self._admitted = self._ended = self._unread = self._broken = self._waits_its_turn = False
        #: Nothing has come yet.
        self._silent = True
        self._timer: asyncio.TimerHandle | None = None

    # -- what asyncio calls -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer or not own:
            transport.abort()  # gone already
            return
        self.peer, self._own, self._from = peer[0], own[0], peer[:2]
        if not self._limits.admit(self.peer):
            self._endpoint.refused += 1
            transport.abort()
            return
        self._admitted = True
        self._endpoint.connections.add(self)
        transport.set_write_buffer_limits(high=UNREAD_MOST)
        self._note_progress()
        self._check_idle()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._end_transfer()
        self._hold(b"")
        if self._timer is not None:
            self._timer.cancel()
        if self._admitted:
            self._limits.forget(self)
            self._limits.release(self.peer)
            self._endpoint.forget(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        buffer = self._endpoint.buffer
        return buffer[:READ_LITTLE] if self._limits.turns.over() else buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._endpoint.buffer[:nbytes])
        self._answer(self._held + data if self._held else data)

    def eof_received(self) -> bool:
        """A half-closed client still gets its answers."""
        self._ended = True
        self._close_when_done()
        return True

    def pause_writing(self) -> None:
        # a client that does not read its answers is not read either
        self._unread = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._unread = False
        self._note_progress()
        if self._transfer is not None:
            self._endpoint.transfer(self)
        else:
            self._go_on()

    # -- queries ----------------------------------------------------------------------------

    def _answer(self, data: bytes) -> None:
        """Answer the queries in ``data``; what is incomplete or may not be answered yet is held."""
        if self._silent:
            self._silent = False
            self._endpoint.moved.set()
        parts: list[bytes] = []
        began, ready, turns = clock(), 0, self._limits.turns
        if turns.over():
            self._wait_its_turn()
        at, size, left = 0, 0, len(data)
        while left - at >= 2 and not self._blocked():
            end = at + 2 + (data[at] << 8 | data[at + 1])
            if end > left:
                break
            packet = data[at + 2 : end]
            at = end
            reply = self._ready_reply(packet)
            if reply is not None:
                ready += 1
            else:
                reply = self._reply(packet)
                if left - at >= 2 and turns.over():
                    self._wait_its_turn()
            if reply is not None:
                parts += (len(reply).to_bytes(2, "big"), reply)
                size += len(reply)
                if size > UNREAD_MOST:
                    self._transport.write(b"".join(parts))
                    parts, size = [], 0
        if parts:
            self._transport.write(b"".join(parts))
        if ready:
            self._handler.observer.times[FAST].add(clock() - began, ready)
        if at:
            self._note_progress()
        self._hold(data[at:])
        if self._broken:
            self._transport.close()

    def _ready_reply(self, packet: bytes) -> bytes | None:
        """The reply to a question that the fast path keeps in full (see :meth:`Fastpath.reply`)."""
        fastpath = self._handler.fastpath
        store, form = fastpath.askers.get(self.peer), FORMS.get(packet[2:HEADER_SIZE])
        if store is None or form is None:
            return None
        if form < 2:
            question, opt = packet[HEADER_SIZE:], b""
        else:
            known = fastpath.opts.get(packet[-OPT_SIZE:])
            if known is None:
                return None
            question, opt = packet[HEADER_SIZE:-OPT_SIZE], known[0]
        ring = store.rings.get(question.lower())
        if ring is None:
            denial = fastpath.reply(store, packet, self.peer)
            if denial is None:
                return None
            fastpath.hits.streamed[store.denials[question[-4:-2].lower()]] += 1
            return self._logged(packet[:2] + denial)
        headers, turn, tails, size, number = ring
        if size > self._whole_below or headers[0][0] & TC_BIT:
            return None  # over UDP something of it may have been left out
        fastpath.hits.counts[number] += 1
        fastpath.hits.streamed[number] += 1
        return self._logged(b"".join((packet[:2], headers[form], question, tails[turn()], opt)))

    def _logged(self, reply: bytes) -> bytes:
        observer = self._handler.observer
        if observer.log is not None:
            observer.note(TCP, reply, self._from)
        return reply

    def _reply(self, packet: bytes) -> bytes | None:
        """The reply by the handler; None where there is none, or none yet."""
        if len(packet) < HEADER_SIZE:
            self._broken = bool(packet)  # an empty frame is nothing at all
            return None
        handler = self._handler
        store = handler.fastpath.askers.get(self.peer) or handler.place(self.peer, self._own)
        began = clock()
        reply = handler.handle_stream(packet, store, self._own, self.peer)
        if isinstance(reply, Foreign):
            self._waiting += 1
            seen = handler.observer.later(TCP, store, self._from, began)
            self._endpoint.forward(reply, lambda answer: self._send_forwarded(seen(answer)))
            return None
        if isinstance(reply, Transfer):
            handler.observer.transfer(store, AXFR)
            return self._begin_transfer(reply)
        handler.observer.saw(TCP, reply, store, self._from, began)
        # not even an error can be said to what is no query: this is no DNS client
        self._broken = reply is None
        return reply

    def _send_forwarded(self, reply: bytes) -> None:
        self._waiting -= 1
        if not self._transport.is_closing():
            self._transport.write(len(reply).to_bytes(2, "big") + reply)
        self._close_when_done()

    # -- transfers --------------------------------------------------------------------------

    def _begin_transfer(self, transfer: Transfer) -> bytes | None:
        if self._limits.transfers >= TRANSFERS_MOST:
            return transfer.busy
        self._limits.transfers += 1
        self._transfer = transfer
        self._transport.pause_reading()  # what comes behind is answered behind
        self._endpoint.transfer(self)
        return None

    def transfer_some(self) -> bool:
        """Send the next message, or do some work towards it; whether to go on at once."""
        if self._transfer is None or self._transport.is_closing():
            return False
        message = next(self._transfer.messages, None)
        if message is None:
            self._end_transfer()
            self._note_progress()
            self._go_on()
            return False
        if message:
            self._transport.write(len(message).to_bytes(2, "big") + message)
        return not self._unread

    def _end_transfer(self) -> None:
        if self._transfer is not None:
            self._transfer = None
            self._limits.transfers -= 1

    # -- flow -------------------------------------------------------------------------------

    def _blocked(self) -> bool:
        """Whether no further query is to be answered now."""
        waits = self._unread or self._waits_its_turn or self._transfer is not None or self._broken
        return waits or self._transport.is_closing()

    def _wait_its_turn(self) -> None:
        """Let others go first: the rest is answered, and read, when there is time again."""
        if not self._waits_its_turn:
            self._waits_its_turn = True
            self._transport.pause_reading()
            self._limits.turns.wait(self._has_its_turn)

    def _has_its_turn(self) -> None:
        self._waits_its_turn = False
        if not self._blocked():
            self._go_on()
        self._endpoint.moved.set()

    def _go_on(self) -> None:
        if self._held:
            self._answer(self._held)
        if not self._blocked():
            self._transport.resume_reading()
            self._close_when_done()

    def _hold(self, data: bytes) -> None:
        self._limits.held += len(data) - len(self._held)
        self._held = data
        if data and self._limits.held > HELD_MOST:
            self.close(at_once=True)

    def close(self, *, at_once: bool = False) -> None:
        self._transport.abort() if at_once else self._transport.close()

    def _close_when_done(self) -> None:
        if self._ended and not self._waiting and self._transfer is None and not self._waits_its_turn:
            self._transport.close()

    def _note_progress(self) -> None:
        self._last = asyncio.get_running_loop().time()
        self._limits.progressed(self)

    @property
    def has_yet_to_ask(self) -> bool:
        """Whether its first question is still on its way, or the next ones wait for their turn."""
        return self._silent or self._waits_its_turn

    @property
    def idle(self) -> float:
        """Seconds since the last progress; none while others work on its questions."""
        working = self._waiting or self._transfer is not None
        return 0.0 if working else asyncio.get_running_loop().time() - self._last

    def _check_idle(self) -> None:
        """Only whole queries, and replies that are read, keep a connection alive."""
        loop = asyncio.get_running_loop()
        working = self._waiting or (self._transfer is not None and not self._unread)
        left = IDLE_SECONDS if working else self._last + IDLE_SECONDS - loop.time()
        if left <= 0:
            self.close(at_once=True)
        else:
            self._timer = loop.call_later(left, self._check_idle)
