"""Bytes in, bytes out: the whole server but its sockets.

A query is read, resolved for its asker's view, packed, and taught to the fast path. No exception
leaves :meth:`Handler.handle`; what cannot be answered at all is silence. docs/protocol.md says
what is answered to what, and why.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, TypeVar

from discoverd.dns import message, transfer, wire
from discoverd.dns.foreign import Awaited, Foreign
from discoverd.dns.message import HEADER_SIZE, MalformedError, Query
from discoverd.dns.observer import Observer
from discoverd.dns.options import Options
from discoverd.resolver import zone
from discoverd.resolver.outcome import (
    AXFR,
    IXFR,
    SOA,
    TXT,
    Answer,
    Later,
    NotOurs,
    Question,
    SoaData,
    TxtData,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoverd.dns.cookies import Cookies
    from discoverd.dns.fastpath import Fastpath
    from discoverd.dns.forwarding import Forwarding
    from discoverd.dns.ratelimit import RateLimit
    from discoverd.dns.store import Store
    from discoverd.dns.transfer import Transfer
    from discoverd.model import IPAddress
    from discoverd.resolver.local import Local
    from discoverd.resolver.outcome import Outcome
    from discoverd.views import Views

__all__ = ["Foreign", "Handler", "Reply"]

log = logging.getLogger("discoverd.dns")

#: Names of the CHAOS class that say what server this is, and which one (RFC 4892).
VERSION_NAMES: Final = frozenset({"version.bind", "version.server"})
IDENTITY_NAMES: Final = frozenset({"hostname.bind", "id.server"})
#: Types that are no data: OPT (RFC 6891), and those that ask for a transaction (RFC 8945, RFC 2930).
META_TYPES: Final = frozenset({41, 249, 250})


Reply = bytes | Foreign | None
T = TypeVar("T")


@dataclass(slots=True)
class Exchange:
    """One query on its way to a reply: who asks what, and how much the reply may hold."""

    packet: bytes
    query: Query
    store: Store
    #: The address that was asked, and the one that asks; None where it is not known.
    own: str | None
    asker: str | None
    tcp: bool
    opt: bytes = b""


class Handler:
    """Answers queries from the registry.

    ``may_recurse`` decides who may have names forwarded, ``allow_transfer`` who may have whole
    domains. ``identity`` is what says which server this is; processes that serve one address
    share their ``cookies``.
    """

    def __init__(
        self,
        local: Local,
        views: Views,
        fastpath: Fastpath,
        *,
        version: str,
        may_recurse: Callable[[IPAddress], bool] = lambda _asker: False,
        allow_transfer: Callable[[IPAddress], bool] = lambda asker: asker.is_loopback,
        cookies: Cookies | None = None,
        identity: str | None = None,
    ) -> None:
        self._local, self._views, self.fastpath = local, views, fastpath
        self._version, self._may_recurse, self._allow_transfer = version, may_recurse, allow_transfer
        self.options = Options(fastpath.udp_size, cookies, identity)
        #: Told of every answer by who sends it.
        self.observer = Observer(fastpath)
        #: Of replies to datagrams; such askers are not remembered by the fast path.
        self.rate_limit: RateLimit | None = None
        #: Who asks others, where plain questions for their names need not come here.
        self.asks: Forwarding | None = None

    def place(self, asker: str, own: str | None) -> Store:
        """The store of an asker's view; remembered where the asker's address alone decides it."""
        address = _address(asker)
        view = self._views.of(address, _address(own) if own else None)
        store = self.fastpath.store(view, may_recurse=view.recursion and self._may_recurse(address))
        watched = self.rate_limit is not None and self.rate_limit.watches(address)
        if not watched and not self._views.hidden(address):
            self.fastpath.remember_asker(address, asker, store)
        return store

    def handle(
        self,
        packet: bytes,
        store: Store,
        own: str | None = None,
        asker: str | None = None,
        *,
        tcp: bool = False,
    ) -> Reply:
        """Answer one message; None where silence is due, Foreign where it is to be forwarded.

        ``own`` is the address that was asked, ``asker`` the one that asks (without it there are no
        cookies and no transfers). Over TCP a reply may have 65,535 octets.
        """
        if self.rate_limit is not None and asker is not None and not tcp and len(packet) >= HEADER_SIZE:
            allowed = self.rate_limit.allows(packet, asker)
            if allowed is not True:
                return allowed or None
        return self._handle(packet, store, own, asker, self._no_transfer, tcp=tcp)

    def handle_stream(self, packet: bytes, store: Store, own: str, asker: str) -> Reply | Transfer:
        """The same for a TCP connection, which can take a transfer's many messages."""
        return self._handle(packet, store, own, asker, self._transfer, tcp=True)

    def _handle(
        self,
        packet: bytes,
        store: Store,
        own: str | None,
        asker: str | None,
        transferred: Callable[[Exchange, Answer], T],
        *,
        tcp: bool,
    ) -> Reply | T:
        if len(packet) < HEADER_SIZE:
            return None
        ident, flags = int.from_bytes(packet[:2], "big"), int.from_bytes(packet[2:4], "big")
        if flags & message.QR:
            return None  # a response is never answered
        if message.opcode(flags):
            return message.bare(ident, flags, message.NOTIMP)
        try:
            query = message.parse(packet)
        except MalformedError as error:
            return self._malformed(error.query, packet)
        exchange = Exchange(packet, query, store, own, asker, tcp)
        try:
            return self._answer(exchange, transferred)
        except MalformedError:
            return self._malformed(query, packet)
        except Exception:
            # one question that trips over a fault of ours must not take the others down
            log.exception("no answer to %s (type %d)", query.question.name, query.question.type)
            return self._bare(query, message.SERVFAIL)

    def _answer(self, exchange: Exchange, transferred: Callable[[Exchange, Answer], T]) -> Reply | T:
        query = exchange.query
        if query.edns is not None and query.edns.version > 0:
            return self._bare(query, message.BADVERS)
        if not query.asked:
            return self._cookie_alone(exchange)
        exchange.opt = self.options.record(query.edns, exchange.asker, stream=transferred == self._transfer)
        if query.qclass != message.IN:
            return self._other_class(exchange)
        wanted = query.question.type
        if wanted in META_TYPES:
            raise MalformedError("a question for what is no data", query)
        if wanted in (AXFR, IXFR):
            return self._may_transfer(exchange, transferred)
        key, store = query.key, exchange.store
        prepared = store.prepared.get(key)
        if prepared is None:
            own = exchange.own
            outcome = self._local.resolve(query.question, store.view, _address(own) if own else None)
            if isinstance(outcome, NotOurs):
                if store.may_recurse and query.flags & message.RD:
                    size, limit = self.fastpath.udp_size, self._limit(exchange)
                    alike = query.edns is None or not query.edns.options
                    keep = None if exchange.tcp or not alike else store
                    return Foreign(
                        query, exchange.tcp, size, exchange.opt, limit, None, keep, exchange.packet[2:]
                    )
                return self._short(exchange, message.REFUSED)
            if isinstance(outcome, Later):
                return self._await(exchange, outcome)
            prepared = wire.prepare(outcome, key)
            self.fastpath.learn(store, key, prepared)
        return self._fit(exchange, prepared)

    def _await(self, exchange: Exchange, later: Later) -> Foreign:
        """A question of ours that somebody else has to be asked about; its reply is not kept."""

        def reply(outcome: Outcome) -> bytes:
            return self._fit(exchange, wire.prepare(outcome, exchange.query.key))

        size, limit = self.fastpath.udp_size, self._limit(exchange)
        awaited = Awaited(later.lookup, reply)
        return Foreign(exchange.query, exchange.tcp, size, exchange.opt, limit, awaited)

    def _fit(self, exchange: Exchange, prepared: wire.Prepared) -> bytes:
        """The next rotation of a reply's records, as many as fit."""
        query, opt, limit = exchange.query, exchange.opt, self._limit(exchange)
        room = limit - HEADER_SIZE - len(query.asked) - len(opt)
        tc, sections, body = prepared.body(next(prepared.starts), room)
        authoritative = message.AA if prepared.rcode in (message.NOERROR, message.NXDOMAIN) else 0
        flags = tc | authoritative | (message.RA if exchange.store.may_recurse else 0)
        return message.reply(query, flags, prepared.rcode, sections, body, opt)

    def _limit(self, exchange: Exchange) -> int:
        """Octets that a reply may have."""
        query, edns = exchange.query, exchange.query.edns
        limit = message.PLAIN_UDP
        if edns is not None:
            # RFC 6891 section 6.2.5: sizes below 512 are taken for 512
            limit = max(message.PLAIN_UDP, min(edns.size, self.fastpath.udp_size))
            # what stands behind, if anything, is the cookie, which differs from asker to asker
            known = exchange.opt[: len(query.opt_record)]
            if known and len(known) == len(query.opt_record):
                self.fastpath.learn_opt(query.opt_record, known, limit)
        return message.TCP_MOST if exchange.tcp else limit

    def _short(self, exchange: Exchange, rcode: int) -> bytes:
        return self._fit(exchange, wire.Prepared(rcode))

    def _bare(self, query: Query, rcode: int) -> bytes:
        """A reply without records and options, for what goes wrong before they are known."""
        return message.reply(query, 0, rcode, (0, 0, 0), b"", self.options.plain(query.edns, rcode))

    def _malformed(self, query: Query | None, packet: bytes) -> bytes:
        if query is not None:
            return self._bare(query, message.FORMERR)
        ident, flags = int.from_bytes(packet[:2], "big"), int.from_bytes(packet[2:4], "big")
        return message.bare(ident, flags, message.FORMERR)

    def _cookie_alone(self, exchange: Exchange) -> bytes:
        edns, asker = exchange.query.edns, exchange.asker
        rcode = self.options.cookie_rcode(edns, asker)
        if rcode is None:
            raise MalformedError("neither a question nor a cookie", exchange.query)
        opt = self.options.record(edns, asker, rcode=rcode)
        return message.reply(exchange.query, 0, rcode, (0, 0, 0), b"", opt)

    def _other_class(self, exchange: Exchange) -> bytes:
        query = exchange.query
        if query.qclass == message.CH and query.question.type == TXT:
            text = None
            if query.question.name in VERSION_NAMES:
                text = f"discoverd {self._version}".encode()
            elif query.question.name in IDENTITY_NAMES:
                text = self.options.identity
            if text is not None:
                record = wire.pack_chaos(TxtData((text,)), query.asked)
                return self._fit(exchange, wire.Prepared(message.NOERROR, (record,)))
        return self._short(exchange, message.REFUSED)

    # -- transfers ------------------------------------------------------------------------

    def _may_transfer(self, exchange: Exchange, transferred: Callable[[Exchange, Answer], T]) -> bytes | T:
        """Who asks for a whole domain: refused, told that nothing is new, or given it."""
        query, asker, own = exchange.query, exchange.asker, exchange.own
        if asker is None or not self._allow_transfer(_address(asker)):
            return self._short(exchange, message.REFUSED)
        if query.question.name not in self._local.settings.domains:
            return self._short(exchange, message.NOTAUTH)  # RFC 5936 section 2.2.1
        if self._local.registry.syncing:
            # a secondary would deny what is not known yet
            return self._short(exchange, message.SERVFAIL)
        view, apex = exchange.store.view, Question(query.question.name, SOA)
        soa = self._local.resolve(apex, view, _address(own) if own else None)
        assert isinstance(soa, Answer)
        data = soa.records[0].data
        assert isinstance(data, SoaData)
        if query.question.type == IXFR:
            # over UDP the SOA record says to come by TCP (RFC 1995 section 2)
            current = transfer.is_current(exchange.packet, query, data.serial)
            if current or not exchange.tcp:
                return self._fit(exchange, wire.prepare(soa, query.key))
        return transferred(exchange, soa)

    def _transfer(self, exchange: Exchange, soa: Answer) -> Transfer:
        query, own = exchange.query, exchange.own
        domain = query.question.name
        records = zone.records(self._local, domain, exchange.store.view, _address(own) if own else None)
        return transfer.begin(query, exchange.opt, soa.records[0], records)

    def _no_transfer(self, exchange: Exchange, _soa: Answer) -> bytes:
        """Not over UDP, where it is not defined (RFC 5936 section 4.2), nor over HTTPS."""
        return self._short(exchange, message.REFUSED)


@lru_cache(maxsize=1024)  # the server's own and those who ask for what is not kept: 4 µs each
def _address(text: str) -> IPAddress:
    """An address as sockets give it; the zone of a link-local one says nothing of who it is."""
    return ip_address(text.partition("%")[0])
