"""A bound on replies to addresses that anybody may have forged (response rate limiting).

Whoever sends questions under somebody else's address makes us send that one the replies. Beyond the
bound a question gets no reply, or every other time one with TC and nothing in it, which is no larger than
the question: who really asked comes by TCP. A cookie of ours proves that an address is the asker's own.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING, Final

from discoverd.dns import message
from discoverd.dns.message import COOKIE, MalformedError
from discoverd.model import unmapped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from discoverd.dns.cookies import Cookies
    from discoverd.model import IPAddress, IPNetwork

#: Leading bits of an address that have one bound together: what one network can forge within itself.
PREFIX_4, PREFIX_6 = 24, 56
#: Networks that are remembered; some 300 octets each.
NETWORKS_MOST: Final = 20_000
#: Every so many questions beyond the bound one is answered with TC.
SLIP: Final = 2


class RateLimit:
    """``rate`` replies a second for each network that is not in ``exempt``, and as many at once.

    ``dropped`` and ``truncated`` count what came of the rest.
    """

    def __init__(
        self,
        rate: int,
        exempt: Sequence[IPNetwork],
        cookies: Cookies,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate, self._exempt, self._cookies, self._clock = rate, tuple(exempt), cookies, clock
        #: What each network may still get, and since when.
        self._left: OrderedDict[int, tuple[float, float]] = OrderedDict()
        self._beyond = self.dropped = self.truncated = 0

    def watches(self, address: IPAddress) -> bool:
        """Whether an asker's questions are counted."""
        plain = unmapped(address)
        return bool(self._rate) and not any(plain in network for network in self._exempt)

    def allows(self, packet: bytes, asker: str) -> bool | bytes:
        """Whether a question that came in a datagram is to be answered; else what is sent instead, which
        may be nothing at all.
        """
        address = ip_address(asker.partition("%")[0])
        if not self.watches(address) or self._take(_network(address)):
            return True
        try:
            query = message.parse(packet)
        except MalformedError:
            query = None
        if query is not None and query.edns is not None:
            cookie = dict(reversed(query.edns.options)).get(COOKIE)
            if cookie is not None and self._cookies.age(cookie, asker, int(time.time())) is not None:
                return True
        self._beyond += 1
        if query is None or not query.asked or self._beyond % SLIP:
            self.dropped += 1
            return b""
        self.truncated += 1
        return message.reply(query, message.TC, message.NOERROR, (0, 0, 0), b"", b"")

    def _take(self, network: int) -> bool:
        now = self._clock()
        left, since = self._left.pop(network, (float(self._rate), now))
        left = min(float(self._rate), left + (now - since) * self._rate)
        allowed = left >= 1
        self._left[network] = (left - 1 if allowed else left), now
        if len(self._left) > NETWORKS_MOST:
            self._left.popitem(last=False)
        return allowed


def _network(address: IPAddress) -> int:
    plain = unmapped(address)
    if isinstance(plain, IPv4Address):
        return int(plain) >> (32 - PREFIX_4)
    return (1 << 128) | int(plain) >> (128 - PREFIX_6)
