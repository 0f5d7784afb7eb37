"""TCP and TLS to one name server: one connection that is kept for a while, questions pipelined on it
(RFC 7766 section 6.2, RFC 7858 section 3.3).
"""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import TYPE_CHECKING, Final

from discoverd.resolver.upstreams.query import matches

if TYPE_CHECKING:
    from discoverd.resolver.upstreams.query import Attempt
    from discoverd.resolver.upstreams.upstream import Upstream

#: Seconds that a connection is kept without a question: less than most servers keep theirs (RFC 7766
#: section 6.2.3), so that it is seldom closed under a question.
IDLE_SECONDS: Final = 5.0
#: Octets of queries that may wait for a server that does not read them.
UNSENT_MOST: Final = 256 * 1024


class _Question:
    """A query that waits for its reply. ``again``: it was sent anew once."""

    __slots__ = ("again", "attempt", "query")

    def __init__(self, query: bytes, attempt: Attempt) -> None:
        self.query, self.attempt, self.again = query, attempt, False


class Stream:
    """The connection to a server, made when it is first needed."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._context: ssl.SSLContext | None = None
        self._link: _Link | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: dict[bytes, _Question] = {}
        self._unsent: list[bytes] = []

    def send(self, query: bytes, attempt: Attempt) -> None:
        """Ask; the attempt is told of every fault."""
        self._send(_Question(query, attempt))

    def forget(self, attempt: Attempt) -> None:
        """Wait no longer for a reply."""
        for ident, question in list(self._waiting.items()):
            if question.attempt is attempt:
                del self._waiting[ident]

    def distrust(self, since: float) -> None:
        """A reply is overdue: a connection on which nothing came since then (loop time) is given up."""
        if self._link is not None and self._link.heard < since:
            self._link.transport.abort()

    @property
    def open(self) -> bool:
        return self._link is not None or self._connecting is not None

    def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.transport.abort()
        self._waiting.clear()

    def _send(self, question: _Question) -> None:
        ident = os.urandom(2)
        while ident in self._waiting:
            ident = os.urandom(2)
        packet = ident + question.query
        frame = len(packet).to_bytes(2, "big") + packet
        self._waiting[ident] = question
        if self._link is not None:
            self._link.write(frame)
            return
        self._unsent.append(frame)
        if self._connecting is None:
            work, name = self._connect(), f"connect to {self._upstream}"
            self._connecting = asyncio.get_running_loop().create_task(work, name=name)

    async def _connect(self) -> None:
        upstream, loop = self._upstream, asyncio.get_running_loop()
        why, link = "", _Link(self)
        try:
            context = await self._tls() if upstream.tls else None
            name = (upstream.name or upstream.host) if upstream.tls else None
            await loop.create_connection(
                lambda: link, upstream.host, upstream.port, ssl=context, server_hostname=name
            )
        except ssl.SSLCertVerificationError as error:
            why = f"its certificate is not right: {error.verify_message}"
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        finally:
            self._connecting = None
            unsent, self._unsent = self._unsent, []
        if why:
            self._lost(why, again=False)
            return
        self._link = link
        link.write(b"".join(unsent))

    async def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            # reading the machine's authorities takes some 30 ms
            authority = self._upstream.authority or None
            loop = asyncio.get_running_loop()
            made = await loop.run_in_executor(None, lambda: ssl.create_default_context(cafile=authority))
            made.minimum_version = ssl.TLSVersion.TLSv1_2
            self._context = made
        return self._context

    def received(self, reply: bytes) -> None:
        question = self._waiting.get(reply[:2])
        if question is not None and matches(reply, question.attempt.question):
            del self._waiting[reply[:2]]
            question.attempt.replied(reply)

    def lost(self, link: _Link, why: str) -> None:
        if self._link is link:
            self._link = None
            # a server may close an idle connection just as a question leaves (RFC 7766 section 6.2.4)
            self._lost(why, again=link.answered)

    def _lost(self, why: str, *, again: bool) -> None:
        waiting, self._waiting = list(self._waiting.values()), {}
        for question in waiting:
            if again and not question.again:
                question.again = True
                self._send(question)
            else:
                question.attempt.failed(why)

    def idle(self) -> bool:
        return not self._waiting


class _Link(asyncio.Protocol):
    """One connection: frames out, frames in."""

    transport: asyncio.Transport

    def __init__(self, stream: Stream) -> None:
        self._stream, self._held, self.answered = stream, b"", False
        self.heard = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._wait()

    def write(self, frames: bytes) -> None:
        self.transport.write(frames)
        if self.transport.get_write_buffer_size() > UNSENT_MOST:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._held += data
        self.heard = asyncio.get_running_loop().time()
        while len(self._held) >= 2:
            end = 2 + int.from_bytes(self._held[:2], "big")
            if len(self._held) < end:
                break
            frame, self._held = self._held[2:end], self._held[end:]
            self.answered = True
            self._stream.received(frame)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._stream.lost(self, f"the connection was lost: {exc}" if exc else "it closed the connection")

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end)

    def _end(self) -> None:
        if self._stream.idle():
            self.transport.close()
        else:
            self._wait()
