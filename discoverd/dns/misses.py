"""Questions for other people's names that nothing is kept for, many at a time: as octets, both ways.

The handler reads a question whole and resolves it. Once it has found that a domain is somebody else's, the
fast path knows questions for names right below it for such, and they come here. What is out of the
ordinary is left to the handler, and what something is kept for.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from discoverd.dns import upstreamed
from discoverd.dns.denial import UNDERSCORE
from discoverd.dns.foreign import VARYING, Waiter, given
from discoverd.dns.hits import TYPES
from discoverd.dns.message import HEADER_SIZE, MAX_NAME, RD, MalformedError
from discoverd.dns.mmsg import CONTROL_SLOT, NAME_SLOT
from discoverd.dns.shapes import Shape, Shapes
from discoverd.dns.store import TYPE_AND_CLASS
from discoverd.resolver.upstreams.flights import Group
from discoverd.resolver.upstreams.query import Asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discoverd.dns.fastpath import Missed
    from discoverd.dns.forwarding import Forwarding
    from discoverd.dns.outbox import Late, Outbox
    from discoverd.dns.shapes import Form
    from discoverd.dns.store import Store
    from discoverd.resolver.upstreams.flights import Flight

    #: Who waits: its id, sockaddr and control data, its OPT record, how many octets it takes, its store.
    Waits = tuple[bytes, bytes, bytes, bytes, int, Store]

#: Type and class of what is plainly asked for: data of the usual types, no transfers or transactions.
USUAL: Final = frozenset(number.to_bytes(2, "big") + b"\0\1" for number in TYPES if not 250 < number < 253)
#: Octets of the longest question.
QUESTION_MOST: Final = MAX_NAME + TYPE_AND_CLASS
#: What tells replies to one question apart (AD, CD and DO), as keys end with it; the flags to ask with.
VARIANTS: Final = tuple(bytes((number,)) for number in range(VARYING + 2))
FLAGS: Final = tuple(RD | number & VARYING for number in range(VARYING + 1))
#: Where an OPT record has DO.
DO_AT: Final = 7


class Misses:
    """Those of one socket; their replies leave by its ``outbox``."""

    def __init__(self, forwarding: Forwarding, outbox: Outbox) -> None:
        self._forwarding, self._outbox = forwarding, outbox
        self._shapes = Shapes()

    @property
    def under_way(self) -> bool:
        """Whether others have still to answer something, whoever asked for it."""
        return self._forwarding.forwarder.under_way > 0

    def take(
        self, missed: Sequence[Missed], places: Sequence[int], batch: tuple[bytes, bytes, bytes], began: int
    ) -> set[int]:
        """Have questions asked that came in one batch, whose ids, sockaddrs and control data these are;
        ``places`` says where in it each is. Returns which were taken: the others are for the handler.
        """
        ids, peers, controls = batch
        forwarding = self._forwarding
        forwarder, elsewhere, kept = forwarding.forwarder, forwarding.elsewhere, forwarding.cache.held
        flying, pending = forwarder.flights.under_way, forwarder.in_flight
        taken: list[int] = []
        fresh: dict[bytes, Flight] = {}
        others: list[tuple[int, Flight]] = []
        group = Group(forwarding, self, began)
        servers: Any = None
        for number, store, query, question, lower, opt, limit in missed:
            first = lower[0]
            if (
                not limit
                or not query[0] & 1  # RD
                or not store.open
                or question[-TYPE_AND_CLASS:] not in USUAL
                or not 0 < first < 64
                or lower[1] == UNDERSCORE  # it may be about ports of what is above it
                or len(lower) > QUESTION_MOST
            ):
                continue
            bits, do = query[1] & VARYING, opt[DO_AT] >> 7 if opt else 0
            key = lower + VARIANTS[bits | do]
            at = places[number]
            control = controls[CONTROL_SLOT * at : CONTROL_SLOT * (at + 1)] if controls else b""
            waits = (
                ids[2 * at : 2 * at + 2],
                peers[NAME_SLOT * at : NAME_SLOT * (at + 1)],
                control,
                opt,
                limit,
                store,
            )
            flight = key, question, FLAGS[bits], do, waits, group
            whom = elsewhere[lower[1 + first : -TYPE_AND_CLASS]]
            if (
                key in fresh
                or key in kept
                or key in flying
                or key in pending
                or whom is not (servers or whom)
            ):
                others.append((number, flight))
            else:
                servers, fresh[key] = whom, flight
                taken.append(number)
        if fresh:
            done = forwarder.launch(group, servers, fresh)
            forwarding.cache.misses += done
            if done < len(fresh):
                for flight in list(fresh.values())[done:]:
                    self._ask(flight)
        taken += [number for number, flight in others if self._ask(flight)]
        return set(taken)

    def _ask(self, flight: Flight) -> bool:
        """The same for one that is asked already, or that something old is kept for."""
        key, question, flags, do, waits, group = flight
        forwarding = self._forwarding
        entry, servers = (
            forwarding.cache.get(key),
            forwarding.elsewhere[key[1 + key[0] : -TYPE_AND_CLASS - 1]],
        )
        if entry is not None and forwarding.cache.clock() < entry.expires:
            return False
        waiter = self._waiter(question, waits, group.began)
        forwarding.miss(key, Asked(flags, question, bool(do)), servers, waiter, entry)
        return True

    def answered(self, replies: list[tuple[Flight, bytes]]) -> None:
        """Send on what has come."""
        cache, known, number_of = self._forwarding.cache, self._shapes.known, int.from_bytes
        keeping = cache.entries_most
        sent: list[Late] = []
        for flight, octets in replies:
            key, question, _, _, (ident, peer, control, opt, limit, store), group = flight
            begin = HEADER_SIZE + len(question)
            rest = octets[begin:]
            form = octets[2:HEADER_SIZE], question[-TYPE_AND_CLASS:], len(rest)
            shape = known.get(form)
            if not isinstance(shape, Shape) or number_of(rest, "big") & shape.mask != shape.wanted:
                if (late := self._read(flight, octets, form)) is not None:
                    sent.append(late)
                continue
            answer = ident + shape.heads[bool(opt)] + octets[HEADER_SIZE : begin + shape.end] + opt
            if len(answer) > limit:
                answer = given(ident, question, opt, limit, shape.read(rest), rest[: shape.end])
            if keeping and (reply := shape.read(rest)).lifetime > 0:
                cache.put(key, reply, reply.lifetime, reply.size)
            number = shape.counted.get(store.place)
            if number is None:
                number = shape.counted[store.place] = store.number(key[:-1], octets[3] & 0xF)
            sent.append((answer, peer, control, number, group.began))
        self._outbox.send(sent)

    def _read(self, flight: Flight, octets: bytes, form: Form) -> Late | None:
        """What to send where it takes reading record by record; None where that fails."""
        key, question, _, _, (ident, peer, control, opt, limit, store), group = flight
        cache = self._forwarding.cache
        try:
            reply = upstreamed.read(octets, key[:-1])
        except MalformedError:
            group.flights.unread(flight, octets)
            return None
        self._shapes.learn(form, octets, HEADER_SIZE + len(question), reply)
        if reply.lifetime > 0 and cache.entries_most:
            cache.put(key, reply, reply.lifetime, reply.size)
        answer = given(ident, question, opt, limit, reply, reply.records)
        return answer, peer, control, store.number(key[:-1], octets[3] & 0xF), group.began

    def waiter(self, flight: Flight) -> Waiter:
        return self._waiter(flight[1], flight[4], flight[5].began)

    def _waiter(self, question: bytes, waits: Waits, began: int) -> Waiter:
        ident, peer, control, opt, limit, store = waits
        return Waiter(ident, question, opt, limit, partial(self._outbox.later, peer, control, store, began))
