"""Prebuilt replies for repeated questions: dict lookups instead of parsing, resolving and packing.

Two levels, both per view (:mod:`discoverd.dns.store`) and both filled by questions that were answered
the long way once:

- *kept queries*: a whole query behind its id, in lower case, or up to its cookie -> the replies to it in
  rotation, as addresses and sizes that the kernel sends from where they lie. What most askers send most of
  the time; :mod:`.levels` gives them out.
- *rings*: a question in lower case -> the records that answer it in rotation. For what differs from
  query to query; one ring serves them all.

What has neither may still be denied from the names that exist; nothing is kept for that.

A change of the registry drops just what rests on the names it touched. (A generation counter for
everything was measured to raise p99 from 1-2 ms to 6-45 ms under a thousand changes a second.)
"""

from __future__ import annotations

import logging
import sys
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, Final

from discoverd.dns import message
from discoverd.dns.cookies import CLIENT_SIZE, WHOLE_SIZE
from discoverd.dns.hits import Hits, in_lower_case
from discoverd.dns.message import OPT_SIZE, PLAIN_UDP
from discoverd.dns.mmsg import ID_SIZE
from discoverd.dns.remembered import Remembered
from discoverd.dns.repeated import Repeated
from discoverd.dns.store import COUNTS, HOLE, NEVER_DENIED, NOTHING, STORE_MOST, Places, Store
from discoverd.resolver.outcome import AAAA, ANY, NS, PTR, SOA, SRV, TXT, A

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from discoverd.dns.anew import Anew
    from discoverd.dns.denial import Denial
    from discoverd.dns.remembered import Answer
    from discoverd.dns.store import Ring, Uses
    from discoverd.dns.wire import Prepared
    from discoverd.model import IPAddress
    from discoverd.views import View

    #: Which of the queries it is, the asker's store, the query without its id, its question as it came and
    #: in lower case, the OPT record to answer with, and the asker's size limit (0: not known).
    Missed = tuple[int, Store, bytes, bytes, bytes, bytes, int]

log = logging.getLogger("discoverd.dns")

#: Types whose answers are kept; a flood of other types must not push them out. 65 is HTTPS, which
#: browsers ask beside every A, 15 MX.
KEPT_TYPES: Final = frozenset(map(in_lower_case, (A, AAAA, SRV, TXT, PTR, NS, SOA, ANY, 15, 65)))
#: Askers whose view is remembered, and OPT records that are known.
ASKERS_MOST: Final = 65_536
OPTS_MOST: Final = 4096

#: Octets 2 to 12 of a standard query (flags and counts) to its form: RD is 1, an OPT record is 2.
#: AD and CD may be set; neither is echoed.
FORMS: Final[dict[bytes, int]] = {
    message.HEADER.pack(0, rd * message.RD | bits, 1, 0, 0, opt)[2:]: rd + 2 * opt
    for rd in (0, 1)
    for opt in (0, 1)
    for bits in (0, 0x10, 0x20, 0x30)
}
#: Forms from here on have an OPT record.
EDNS: Final = 2
#: Octets 2 to 12 of a reply that denies a name, by whether names are forwarded, and by form.
DENIED: Final = tuple(
    tuple(
        message.HEADER.pack(0, message.QR | message.AA | ra | rd | message.NXDOMAIN, 1, 0, 1, opt)[2:]
        for opt in (0, 1)
        for rd in (0, message.RD)
    )
    for ra in (0, message.RA)
)
#: Octets of an OPT record with one option, before that option's data.
BARE_COOKIE: Final = OPT_SIZE + 4
#: Octets of an option's data that is a client cookie, or that and a server cookie of ours; where the first
#: says how long it is, from the end: low octet only.
COOKIE_LENGTH_AT: Final = -CLIENT_SIZE - 1


class ByAsker(dict[int | bytes, Places]):
    """Askers to what is kept for them: nothing for who is not known."""

    __slots__ = ()

    def __missing__(self, _asker: int | bytes) -> Places:
        return NOTHING


class Fastpath:
    """The stores of all views, who gets which, and which names their contents rest on."""

    def __init__(
        self,
        udp_size: int,
        *,
        denial: Denial | None = None,
        anew: Anew | None = None,
        cookies: Answer = lambda options, _client, _now: [None] * len(options),
    ) -> None:
        """``denial`` knows what is about nothing, ``anew`` what a plain name leads to; ``cookies`` gives the
        options to answer COOKIE options with, None where that is not to be decided here.
        """
        self.udp_size, self._denying, self._anew = udp_size, denial, anew
        #: Replies that were given out, and how many of them were made anew.
        self.hits, self.made = Hits(), 0
        #: Octets of replies that were dropped. A batch may be about to send them: who answers it clears this.
        self.retired: list[object] = []
        #: Denials that are kept: to be forgotten with every change.
        self.repeated = Repeated(self.retired)
        #: An asker's address as text to its store.
        self.askers: dict[str, Store] = {}
        #: The same for a batch, by address as it stands in a sockaddr (:func:`sockaddr_key`): to the
        #: exact queries alone, and to the store with the address as text.
        self.exact: dict[int | bytes, Places] = ByAsker()
        self.placed: dict[int | bytes, tuple[Store, str]] = {}
        self._stores: dict[tuple[View, bool], Store] = {}
        #: Names to the one question that rests on them, or the set of them (0.2 KB a name more).
        self._dependents: dict[str, tuple[Store, bytes] | set[tuple[Store, bytes]]] = {}
        #: Whether anything rests on a reverse name: to spell one costs 3 µs of every change.
        self._reverse = False
        #: Domains in wire format, in lower case, that nothing of ours is right below; who asks others looks
        #: after it.
        self.elsewhere: dict[bytes, Any] = {}
        #: The OPT records of queries to (the OPT to answer with, the asker's size limit); where the
        #: only option is a cookie, both without the cookie itself.
        self.opts: dict[bytes, tuple[bytes, int]] = {}
        self.cookies = Remembered(cookies)

    def reply(self, store: Store, packet: bytes, client: str) -> bytes | None:
        """Everything behind the id of the reply to a query, or None where it is for the handler."""
        return self.vary([packet[2:]], [(store, client)])[0]

    def deny(self, keys: Sequence[bytes], known: Sequence[tuple[Store, str] | None]) -> list[bytes]:
        """What denies each of these questions, by the keys of their queries; holes for those that may
        be about something. ``known`` is of each asker, or of the one who asked all.
        """
        denial = self._denying
        if denial is None:
            return [HOLE] * len(keys)
        places = denial.find(keys, [each[0].denied if each else NEVER_DENIED for each in known])
        self.repeated.see(keys, places, known, denial.blocks)
        return places

    def answer_cookies(
        self, cookies: Sequence[bytes], known: Sequence[tuple[Store, str] | None]
    ) -> Sequence[bytes]:
        """The cookies to answer these with; askers as above."""
        remembered = self.cookies
        remembered.begin()
        names = [each[1] if each else "" for each in known]
        if len(names) == 1:
            return remembered.answer_all(cookies, names[0])
        return list(map(remembered.answer, cookies, names))

    def vary(
        self,
        queries: Iterable[bytes],
        placed: Iterable[tuple[Store, str] | None],
        missed: list[Missed] | None = None,
        *,
        anew: bool = False,
    ) -> list[bytes | None]:
        """The same for many queries that are not kept exactly, each without its id.

        ``placed`` is each asker's store and address as text, None where that is not known yet. Put with
        ``missed`` is what is known of questions for names elsewhere; the reply to those is None. With
        ``anew`` answers are made for names that there are, which takes as long as ten that are kept.
        """
        # One loop over local names: 0.4 µs a query. A call for each, which cuts out its own packet, took
        # 0.8; the same loop in five passes takes 0.35, and that is not worth it.
        replies: list[bytes | None] = []
        opts, cookies, hits = self.opts, self.cookies, self.hits.counts
        elsewhere = self.elsewhere
        fresh: dict[
            bytes, tuple[Callable[[bytes, bytes, bytes, bytes, int], None], bytes, bytes, bytes, int]
        ] = {}
        cookies.begin()
        for query, known in zip(queries, placed, strict=True):
            form = FORMS.get(query[:COUNTS])
            if form is None or known is None:
                replies.append(None)
                continue
            store, client = known
            ending = 0  # octets of a cookie
            if form < EDNS:
                question, opt, limit = query[COUNTS:], b"", PLAIN_UDP
            elif (
                query[COOKIE_LENGTH_AT] != CLIENT_SIZE and (fixed := opts.get(query[-OPT_SIZE:])) is not None
            ):
                question, (opt, limit) = query[COUNTS:-OPT_SIZE], fixed
            else:
                ending = CLIENT_SIZE
                fixed = opts.get(query[-BARE_COOKIE - ending : -ending])
                if fixed is None:
                    ending = WHOLE_SIZE
                    fixed = opts.get(query[-BARE_COOKIE - ending : -ending])
                cookie = cookies.answer(query[-ending:], client) if fixed is not None else b""
                if fixed is None or not cookie:
                    replies.append(None)
                    continue
                question, opt, limit = query[COUNTS : -BARE_COOKIE - ending], fixed[0] + cookie, fixed[1]
            # a hit proves the question well-formed: in lower case it equals one that was parsed, and
            # lower() leaves lengths alone, which are below 64
            key = question.lower()
            ring = store.rings.get(key)
            if ring is None and key and missed is not None and key[1 + key[0] : -4] in elsewhere:
                missed.append((len(replies), store, query, question, key, opt, limit))
                replies.append(None)
                continue
            new = ring is None and anew and limit
            if new:
                ring = self._ring(store, key)
            if ring is None:
                replies.append(self._denial(store, form, query, question, opt) if limit else None)
                continue
            headers, turn, tails, size, number = ring
            if size + len(opt) > limit:
                replies.append(None)
                continue
            head, at = headers[form] + question, turn()
            replies.append(head + tails[at] + opt)
            hits[number] += 1
            if new:
                self.made += 1
            if not ending and key == question:
                fresh[query] = store.keep_exact, key, head, opt, at + 1
            elif not ending:
                fresh[query] = store.keep_folded, key, headers[form], opt, at + 1
            elif key == question:
                fresh[query[:-ending]] = store.keep_cookied, key, head, opt[:-WHOLE_SIZE], at + 1
        # only now is it certain whose turn is next
        for query, (keep, question, head, opt, turns) in fresh.items():
            keep(query, question, head, opt, turns)
        return replies

    def _ring(self, store: Store, key: bytes) -> Ring | None:
        """The ring of a question that nothing is kept for, where there may be one."""
        if self._anew is None or key in store.prepared:  # as where no ring fits
            return None
        try:
            prepared = self._anew.prepare(key, store.view)
            if prepared is not None:
                self.learn(store, key, prepared)
        except Exception:
            # the handler will trip over it as well, and has a reply for that; the others must get theirs
            log.exception("no answer to the question %r", key)
        return store.rings.get(key)

    def _denial(self, store: Store, form: int, query: bytes, question: bytes, opt: bytes) -> bytes | None:
        key = question.lower()
        # a link alias is a name for its own client alone, so the names of all do not tell
        denial = None if store.view.links else self._denying
        soa = denial.soa(key) if denial is not None else None
        if denial is None or soa is None:
            return None
        header = DENIED[store.may_recurse][form]
        reply = header + question + soa + opt
        if len(reply) > PLAIN_UDP - ID_SIZE:
            return None
        number = store.denials[key[-4:-2]]
        self.hits.counts[number] += 1
        if form < EDNS or query[-OPT_SIZE:] in self.opts:
            denial.lay_out(store, query, key, header, soa + opt)
            self.repeated.offer(store, query, reply, number)
        return reply

    def store(self, view: View, *, may_recurse: bool) -> Store:
        key = (view, may_recurse)
        store = self._stores.get(key)
        if store is None:
            store = Store(view, may_recurse=may_recurse, hits=self.hits, retired=self.retired)
            self._stores[key] = store
        return store

    def remember_asker(self, address: IPAddress, text: str, store: Store) -> None:
        if len(self.askers) >= ASKERS_MOST:
            self._forget_askers()
        key = sockaddr_key(address)
        known = self.placed.get(key)
        if known is not None:  # a link-local address, asking from another link
            self.askers.pop(known[1], None)
        self.askers[text] = store
        self.exact[key], self.placed[key] = store.exact, (store, text)

    def learn_opt(self, record: bytes, answer: bytes, limit: int) -> None:
        """Keep how to answer an OPT record; ``limit`` is the asker's, in octets.

        ``record`` is the last of its message, and has no option, or one cookie, which is left out
        of both.
        """
        if len(self.opts) < OPTS_MOST:
            self.opts[record] = (answer, limit)

    def learn(self, store: Store, key: bytes, prepared: Prepared) -> None:
        """Keep a reply for the next time its question is asked, until a name it depends on changes."""
        denied = prepared.rcode == message.NXDOMAIN
        if (
            denied
            or not prepared.depends
            or key[-4:-2] not in KEPT_TYPES
            or len(store.prepared) >= STORE_MOST
        ):
            return
        store.keep(key, prepared, self.udp_size)
        self._depend(store, key, prepared.depends)

    def keep(self, store: Store, question: bytes, query: bytes, reply: bytes, names: Iterable[str]) -> Uses:
        """Give this reply to this exact query, both without id, until one of the names changes.

        For what is not ours, and so has no records to rotate. Returns a count of the times it is given.
        """
        self._depend(store, question, names)
        return store.keep_reply(query, question, reply)

    def unkeep(self, store: Store, question: bytes, names: Iterable[str]) -> None:
        """Forget the replies to a question that were given to :meth:`keep` with these names."""
        store.drop(question)
        for name in names:
            held = self._dependents.get(name)
            if isinstance(held, set):
                held.discard((store, question))
            if not held or held == (store, question):
                self._dependents.pop(name, None)

    def _depend(self, store: Store, key: bytes, names: Iterable[str]) -> None:
        for name in names:
            self._reverse = self._reverse or name.endswith(".arpa")
            held = self._dependents.setdefault(name, (store, key))
            if isinstance(held, set):
                held.add((store, key))
            elif held != (store, key):
                self._dependents[name] = {held, (store, key)}

    def drop(self, names: Iterable[str]) -> None:
        """Forget what rests on these names."""
        for name in names:
            held = self._dependents.pop(name, ())
            for store, key in held if isinstance(held, set) else (held,) if held else ():
                store.drop(key)

    def drop_addresses(self, addresses: Iterable[IPAddress]) -> None:
        """Forget whose addresses these were as askers, and their reverse names."""
        for address in addresses:
            key = sockaddr_key(address)
            self.exact.pop(key, None)
            placed = self.placed.pop(key, None)
            if placed is not None:
                self.askers.pop(placed[1], None)
            if self._reverse:
                self.drop((address.reverse_pointer,))

    def clear(self) -> None:
        """Forget everything: networks, views or the state of a source changed."""
        self._forget_askers()
        self.repeated.forget()
        if self._denying is not None:
            self.retired.append(self._denying.forget())
        self.retired.extend(self._stores.values())
        self._stores.clear()
        self._dependents.clear()
        self._reverse = False

    def _forget_askers(self) -> None:
        self.askers.clear()
        self.exact.clear()
        self.placed.clear()


def sockaddr_key(address: IPAddress) -> int | bytes:
    """An address as a batch reads it from a sockaddr: a native integer (IPv4), or 16 octets."""
    if isinstance(address, IPv4Address):
        return int.from_bytes(address.packed, sys.byteorder)
    return address.packed
