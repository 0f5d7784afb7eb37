"""Bytes in, bytes out: the whole server but its sockets.

A query is read, resolved for its asker's view, packed, and taught to the fast path. No exception
leaves :meth:`Handler.handle`; what cannot be answered at all is silence.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from discoverd.dns import message, wire
from discoverd.dns.message import HEADER_SIZE, MalformedError, Query
from discoverd.resolver.outcome import AXFR, IXFR, NotOurs, TxtData

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoverd.dns.fastpath import Fastpath, Store
    from discoverd.model import IPAddress
    from discoverd.resolver.local import Local
    from discoverd.resolver.outcome import Outcome
    from discoverd.views import Views

log = logging.getLogger("discoverd.dns")

#: Names of the CHAOS class that say what server this is (RFC 4892).
VERSION_NAMES = frozenset({"version.bind", "version.server"})
#: Types that are no data: OPT (RFC 6891), and those that ask for a transaction (RFC 8945, RFC 2930).
META_TYPES = frozenset({41, 249, 250})


@dataclass(frozen=True, slots=True)
class Foreign:
    """A question for somebody else's name by an asker that may have it forwarded."""

    packet: bytes
    query: Query
    tcp: bool
    #: What is advertised to the asker, in octets.
    udp_size: int


Reply = bytes | Foreign | None


class Handler:
    """Answers queries from the registry. ``may_recurse`` decides who may have names forwarded."""

    def __init__(
        self,
        local: Local,
        views: Views,
        fastpath: Fastpath,
        *,
        version: str,
        may_recurse: Callable[[IPAddress], bool] = lambda _asker: False,
    ) -> None:
        self._local, self._views, self.fastpath = local, views, fastpath
        self._version, self._may_recurse = version, may_recurse

    def place(self, asker: str, own: str | None) -> Store:
        """The store of an asker's view; remembered where the asker's address alone decides it."""
        address = ip_address(asker.partition("%")[0])
        view = self._views.of(address, ip_address(own.partition("%")[0]) if own else None)
        store = self.fastpath.store(view, may_recurse=view.recursion and self._may_recurse(address))
        if not self._views.hidden(address):
            self.fastpath.remember_asker(address, asker, store)
        return store

    def handle(self, packet: bytes, store: Store, own: str | None = None, *, tcp: bool = False) -> Reply:
        """Answer one message; None where silence is due, Foreign where it is to be forwarded.

        ``own`` is the address that was asked. Over TCP a reply may have 65,535 octets.
        """
        if len(packet) < HEADER_SIZE:
            return None
        ident, flags = int.from_bytes(packet[:2], "big"), int.from_bytes(packet[2:4], "big")
        if flags & message.QR:
            return None  # a response is never answered
        if message.opcode(flags):
            return message.bare(ident, flags, message.NOTIMP)
        try:
            query = message.parse(packet)
        except MalformedError:
            return message.bare(ident, flags, message.FORMERR)
        try:
            return self._answer(packet, query, store, own, tcp=tcp)
        except Exception:
            # one question that trips over a fault of ours must not take the others down
            log.exception("no answer to %s (type %d)", query.question.name, query.question.type)
            return self._short(query, store, message.SERVFAIL)

    def _answer(self, packet: bytes, query: Query, store: Store, own: str | None, *, tcp: bool) -> Reply:
        if query.edns is not None and query.edns.version > 0:
            return message.reply(
                query, 0, 0, (0, 0, 0), b"", message.opt(self.fastpath.udp_size, message.BADVERS >> 4)
            )
        if query.qclass != message.IN:
            return self._other_class(query, store)
        if query.question.type in META_TYPES:
            return self._short(query, store, message.FORMERR)
        if query.question.type in (AXFR, IXFR):
            return self._short(query, store, message.REFUSED)
        key = query.key
        prepared = store.prepared.get(key)
        if prepared is None:
            outcome: Outcome = self._local.resolve(
                query.question, store.view, ip_address(own) if own else None
            )
            if isinstance(outcome, NotOurs):
                if store.may_recurse and query.flags & message.RD:
                    return Foreign(packet, query, tcp, self.fastpath.udp_size)
                return self._short(query, store, message.REFUSED)
            prepared = wire.prepare(outcome, key)
            self.fastpath.learn(store, key, prepared)
        return self._fit(query, store, prepared, tcp=tcp)

    def _fit(self, query: Query, store: Store, prepared: wire.Prepared, *, tcp: bool) -> bytes:
        opt = b""
        limit = message.TCP_MOST if tcp else message.PLAIN_UDP
        if query.edns is not None:
            opt = message.opt(self.fastpath.udp_size)
            if not tcp:
                # RFC 6891 section 6.2.5: sizes below 512 are taken for 512
                limit = max(message.PLAIN_UDP, min(query.edns.size, self.fastpath.udp_size))
                if not query.edns.options:
                    self.fastpath.learn_opt(query.opt_record, opt, limit)
        room = limit - HEADER_SIZE - len(query.asked) - len(opt)
        tc, sections, body = prepared.body(next(prepared.starts), room)
        authoritative = message.AA if prepared.rcode in (message.NOERROR, message.NXDOMAIN) else 0
        flags = tc | authoritative | (message.RA if store.may_recurse else 0)
        return message.reply(query, flags, prepared.rcode, sections, body, opt)

    def _short(self, query: Query, store: Store, rcode: int) -> bytes:
        return self._fit(query, store, wire.Prepared(rcode), tcp=False)

    def _other_class(self, query: Query, store: Store) -> bytes:
        if query.qclass == message.CH and query.question.name in VERSION_NAMES and query.question.type == 16:
            text = TxtData((f"discoverd {self._version}".encode(),))
            record = wire.pack_chaos(text, query.asked)
            return self._fit(query, store, wire.Prepared(message.NOERROR, (record,)), tcp=False)
        return self._short(query, store, message.REFUSED)
