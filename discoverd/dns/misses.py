"""The plain questions for other people's names that nothing is kept for: read and asked on as octets.

The handler reads every question whole and resolves it; here it is enough to know that the domain its name
stands right below is somebody else's, which is found out once for each domain. What is out of the
ordinary is left to the handler: cookies and other options, private names, names that ours may be among.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from discoverd.dns.fastpath import COUNTS, EDNS, FORMS
from discoverd.dns.foreign import Waiter
from discoverd.dns.message import MAX_NAME, OPT_SIZE, PLAIN_UDP, RD
from discoverd.resolver import private
from discoverd.resolver.upstreams.query import Asked, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from discoverd.dns.forwarding import Forwarding
    from discoverd.dns.store import Store
    from discoverd.resolver.upstreams import Server

#: Domains that are remembered.
DOMAINS_MOST: Final = 10_000
#: OPT, TKEY, TSIG, and what asks for a transfer: no types of data.
SPECIAL: Final = frozenset(number.to_bytes(2, "big") for number in (41, 249, 250, 251, 252))
IN: Final = b"\0\1"
UNDERSCORE: Final = ord("_")
#: What tells replies to one question apart (AD, CD and DO), as keys end with it.
VARIANTS: Final = tuple(bytes((number,)) for number in range(0x32))
FLAGS: Final = tuple(RD | number & 0x30 for number in range(0x31))


class Misses:
    """Takes such questions. ``is_elsewhere`` says whether all names right below a domain are others'."""

    def __init__(
        self,
        forwarding: Forwarding,
        opts: Mapping[bytes, tuple[bytes, int]],
        is_elsewhere: Callable[[str], bool],
    ) -> None:
        """``opts`` are OPT records of queries to what they are answered with, and the asker's size limit."""
        self._forwarding, self._opts, self._is_elsewhere = forwarding, opts, is_elsewhere
        #: Domains in wire format, in lower case, to who is asked; to nobody where we may have a say.
        self._domains: dict[bytes, Sequence[Server]] = {}

    def forget(self) -> None:
        """The registry has changed, or what is configured."""
        self._domains.clear()

    def take(self, query: bytes, ident: bytes, store: Store, send: Callable[[bytes], None]) -> bool:
        """Have a question asked, which is given without its id; False where it is for the handler.

        ``send`` gets one reply, which may be before this returns.
        """
        form = FORMS.get(query[:COUNTS])
        if form is None or not form & 1 or not store.may_recurse or store.view.links:
            return False
        if form < EDNS:
            question, opt, limit, do = query[COUNTS:], b"", PLAIN_UDP, 0
        elif (known := self._opts.get(query[-OPT_SIZE:])) is not None:
            question, (opt, limit), do = query[COUNTS:-OPT_SIZE], known, query[-4] >> 7
        else:
            return False
        lower = question.lower()
        domain = lower[1 + lower[0] : -4] if lower else b""
        servers = self._domains.get(domain)
        if servers is None:
            servers = self._find(domain)
        # that the domain is known proves that it is well-formed, and the first label with it
        if (
            not servers
            or not 0 < lower[0] < 64
            or lower[1] == UNDERSCORE
            or len(lower) - 4 > MAX_NAME
            or question[-2:] != IN
            or question[-4:-2] in SPECIAL
        ):
            return False
        forwarding, bits = self._forwarding, query[1] & 0x30
        key = lower + VARIANTS[bits | do]
        entry = forwarding.cache.get(key)
        if entry is not None and forwarding.cache.clock() < entry.expires:
            return False
        waiter = Waiter(ident, question, opt, limit, send)
        forwarding.miss(key, Asked(FLAGS[bits], question, bool(do)), servers, waiter, entry)
        return True

    def _find(self, domain: bytes) -> Sequence[Server]:
        """Who is asked about names right below a domain; nobody where it must be looked at closely."""
        if not is_name(domain):
            return ()
        name, forwarder = name_of(domain), self._forwarding.forwarder
        servers: Sequence[Server] = ()
        if (
            name
            and self._is_elsewhere(name)
            and private.zone_of(f"x.{name}") is None
            and not any(zone.partition(".")[2] == name for zone in forwarder.zones)
        ):
            servers = forwarder.servers(name)
        if len(self._domains) >= DOMAINS_MOST:
            self._domains.clear()
        self._domains[domain] = servers
        return servers


def is_name(octets: bytes) -> bool:
    """Whether these octets are one name in wire format, without pointers."""
    at, last = 0, len(octets) - 1
    while 0 <= at < last and 0 < octets[at] < 64:
        at += 1 + octets[at]
    return at == last and octets[at] == 0
