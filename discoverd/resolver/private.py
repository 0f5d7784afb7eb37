"""Names that are nobody's business beyond this machine unless a zone is configured for them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from discoverd.resolver.outcome import AAAA, SOA, A, Answer, NoData, NxDomain, Record, SoaData

if TYPE_CHECKING:
    from discoverd.resolver.outcome import Outcome, Question

#: RFC 6761, 6762, 7686, 8375, 9462, 9476, ICANN's ``internal``, and the reverse zones of RFC 6303 and 7793.
NEVER_SENT: Final = frozenset((
    "local", "localhost", "invalid", "test", "onion", "home.arpa", "internal", "alt", "resolver.arpa",
    "0.in-addr.arpa", "10.in-addr.arpa", "127.in-addr.arpa", "254.169.in-addr.arpa", "168.192.in-addr.arpa",
    *(f"{n}.172.in-addr.arpa" for n in range(16, 32)),
    *(f"{n}.100.in-addr.arpa" for n in range(64, 128)),
    "2.0.192.in-addr.arpa", "100.51.198.in-addr.arpa", "113.0.203.in-addr.arpa",
    "255.255.255.255.in-addr.arpa",
    "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
    "c.f.ip6.arpa", "d.f.ip6.arpa", "8.e.f.ip6.arpa", "9.e.f.ip6.arpa", "a.e.f.ip6.arpa", "b.e.f.ip6.arpa",
    "8.b.d.0.1.0.0.2.ip6.arpa",
))  # fmt: skip
#: Seconds that a denial may be cached: a container may be called so a moment later.
NEGATIVE_TTL: Final = 5
LOOPBACK: Final[dict[int, IPv4Address | IPv6Address]] = {
    A: IPv4Address("127.0.0.1"),
    AAAA: IPv6Address("::1"),
}
#: Seconds for localhost, which does not move.
LOCALHOST_TTL: Final = 3600


def zone_of(name: str) -> str | None:
    """The private zone that a name is in; empty for a single label or the root's own, None for others."""
    if "." not in name:
        return name if name in NEVER_SENT else ""
    rest = name
    while rest:
        if rest in NEVER_SENT:
            return rest
        _, _, rest = rest.partition(".")
    return None


def answer(question: Question, zone: str) -> Outcome:
    """What is said of a name in a private zone: that there is none, but for localhost (RFC 6761
    section 6.3).
    """
    data = SoaData("localhost", "nobody.invalid", 1, 3600, 600, 86400, NEGATIVE_TTL)
    soa = Record(SOA, NEGATIVE_TTL, data, zone)
    if zone == "localhost":
        if question.type in LOOPBACK:
            return Answer((Record(question.type, LOCALHOST_TTL, LOOPBACK[question.type]),))
        return NoData(soa)
    # an apex is there (RFC 6303 section 3): others below it may be as well
    return NoData(soa) if question.name == zone else NxDomain(soa)
