"""Chosen instances to records. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from discoverd.resolver.outcome import AAAA, TXT, A, Record, TxtData

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from discoverd.model import Instance, IPAddress
    from discoverd.resolver.select import Chosen

#: RFC 1035 section 3.3: a character-string holds at most 255 octets.
MAX_STRING = 255
#: Octets of one record's strings with their lengths, so that a message over TCP can hold it.
MAX_TEXT = 60_000


def effective_ttl(instances: Iterable[Instance], default: int) -> int:
    """Seconds: the least of the instances' own TTLs, the default where they have none."""
    return min((default if i.ttl is None else i.ttl for i in instances), default=default)


def addresses(chosen: Sequence[Chosen], wanted: int, ttl: int) -> tuple[Record, ...]:
    """A or AAAA records, each address once, in the order of the instances."""
    version = 4 if wanted == A else 6
    seen: dict[IPAddress, None] = {}
    for choice in chosen:
        for address in choice.addresses:
            if address.ip.version == version:
                seen.setdefault(address.ip)
    return tuple(Record(wanted, ttl, ip) for ip in seen)


def glue(choice: Chosen, owner: str, ttl: int) -> tuple[Record, ...]:
    """The address records of one instance under a name of its own."""
    return tuple(Record(A if a.ip.version == 4 else AAAA, ttl, a.ip, owner) for a in choice.addresses)


def texts(chosen: Sequence[Chosen], ttl: int) -> tuple[Record, ...]:
    """The instances' metadata, one TXT record for each that differs; none where there is no metadata."""
    seen: dict[tuple[bytes, ...], None] = {}
    for choice in chosen:
        strings = text_strings(choice.instance)
        if strings:
            seen.setdefault(strings)
    return tuple(Record(TXT, ttl, TxtData(strings)) for strings in seen)


def text_strings(instance: Instance) -> tuple[bytes, ...]:
    """``key=value`` strings (RFC 6763 section 6.4), the tags as ``tags=a,b``; what is too long, or no key,
    is left out.
    """
    pairs = list(instance.meta)
    if instance.tags and not any(key.lower() == "tags" for key, _ in pairs):
        pairs.append(("tags", ",".join(instance.tags)))
    strings: list[bytes] = []
    seen: set[str] = set()
    room = MAX_TEXT
    for key, value in pairs:
        # printable US-ASCII without "=", and each key once
        fit = key and all(0x20 <= ord(c) <= 0x7E and c != "=" for c in key) and key.lower() not in seen
        string = f"{key}={value}".encode("utf-8", "replace")
        if fit and len(string) <= MAX_STRING and len(string) < room:
            seen.add(key.lower())
            strings.append(string)
            room -= len(string) + 1
    return tuple(strings)
