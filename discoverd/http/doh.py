"""DNS messages over HTTP (RFC 8484): the same answers as over TCP, for the HTTP peer as asker."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from typing import TYPE_CHECKING

from aiohttp import web

from discoverd.dns.observer import HTTPS, clock
from discoverd.http.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from discoverd.dns.handler import Foreign, Handler

    #: (message, asker's address, own address) to a reply; None where there is nothing to say.
    Exchange = Callable[[bytes, str, str], Awaitable[bytes | None]]

TYPE = "application/dns-message"
#: RFC 8484 section 6: a DNS message has at most 65,535 octets.
MESSAGE_MOST = 65_535
#: Seconds for a forwarded question; the forwarder gives up before.
FORWARD_SECONDS = 15.0


class DnsQuery:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/dns-query", self.get), web.post("/dns-query", self.post)]

    async def get(self, request: web.Request) -> web.Response:
        text = request.query.get("dns")
        if not text:
            raise ApiError(400, "the parameter dns is missing: a DNS message in base64url", "dns")
        # RFC 8484 section 6: base64url without padding; clients that pad are understood
        if not re.fullmatch(r"[A-Za-z0-9_-]+={0,2}", text):
            raise ApiError(400, "dns is not base64url (RFC 4648 section 5)", "dns")
        try:
            packet = base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
        except binascii.Error:
            raise ApiError(400, "dns is not base64url (RFC 4648 section 5)", "dns") from None
        return await self._answer(request, packet)

    async def post(self, request: web.Request) -> web.Response:
        if request.content_type != TYPE:
            raise ApiError(
                415, f"the content type is {request.content_type}: expected {TYPE}", "Content-Type"
            )
        return await self._answer(request, await request.read())

    async def _answer(self, request: web.Request, packet: bytes) -> web.Response:
        if len(packet) > MESSAGE_MOST:
            raise ApiError(413, f"a DNS message has at most {MESSAGE_MOST} octets")
        assert request.transport is not None
        asker = request.transport.get_extra_info("peername")[0]
        own = request.transport.get_extra_info("sockname")[0]
        try:
            reply = await self._exchange(packet, asker, own.partition("%")[0])
        except TimeoutError:
            raise ApiError(503, "no server that this is forwarded to has answered") from None
        if reply is None:
            raise ApiError(400, "this is no DNS query")
        headers = {"Cache-Control": f"max-age={freshness(reply)}"}
        return web.Response(body=reply, content_type=TYPE, headers=headers)


def exchange(handler: Handler, forward: Callable[[Foreign, Callable[[bytes], None]], None]) -> Exchange:
    """The way from a message to its reply: the handler that serves the sockets, as over TCP."""

    async def ask(packet: bytes, asker: str, own: str) -> bytes | None:
        began, peer = clock(), (asker, 0)
        store = handler.fastpath.askers.get(asker) or handler.place(asker, own)
        reply = handler.handle(packet, store, own, tcp=True)
        if reply is None or isinstance(reply, bytes):
            handler.observer.saw(HTTPS, reply, store, peer, began)
            return reply
        foreign, seen = reply, handler.observer.later(HTTPS, store, peer, began)
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def finish(answer: bytes) -> None:
            if not done.done():
                done.set_result(seen(foreign.finish(answer)))

        forward(foreign, finish)
        async with asyncio.timeout(FORWARD_SECONDS):
            return await done

    return ask


def freshness(reply: bytes) -> int:
    """Seconds for which an HTTP cache may keep a reply: its least TTL (RFC 8484 section 5.1).

    0 for errors and for replies without records; OPT's "TTL" is none (RFC 6891).
    """
    questions, *sections = (int.from_bytes(reply[i : i + 2], "big") for i in (4, 6, 8, 10))
    if reply[3] & 0x0F not in (0, 3):
        return 0
    offset = 12
    for _ in range(questions):
        offset = _after_name(reply, offset) + 4
    ttls = []
    for _ in range(sum(sections)):
        offset = _after_name(reply, offset)
        if int.from_bytes(reply[offset : offset + 2], "big") != 41:
            ttls.append(int.from_bytes(reply[offset + 4 : offset + 8], "big"))
        offset += 10 + int.from_bytes(reply[offset + 8 : offset + 10], "big")
    return min(ttls, default=0)


def _after_name(packet: bytes, offset: int) -> int:
    """The offset behind a name (RFC 1035 sections 3.1 and 4.1.4); past the end for one that is cut off."""
    while offset < len(packet):
        length = packet[offset]
        if length >= 0xC0:
            return offset + 2
        offset += 1 + length
        if not length:
            return offset
    return offset
