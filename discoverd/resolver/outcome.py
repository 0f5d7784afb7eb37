"""What a question can come to. Different outcomes are different types: a wrong NXDOMAIN gets cached."""

from __future__ import annotations

from dataclasses import dataclass

from discoverd.model import IPAddress

# Record types (IANA DNS parameters) that discoverd holds data of.
A, NS, SOA, PTR, TXT, AAAA, SRV, ANY = 1, 2, 6, 12, 16, 28, 33, 255
IXFR, AXFR = 251, 252


@dataclass(frozen=True, slots=True)
class Question:
    """One question (RFC 1035 section 4.1.2), name lower-case, dotted, without the final dot.

    A label with characters that no name of ours has is escaped, so it matches nothing.
    """

    name: str
    type: int


@dataclass(frozen=True, slots=True)
class SrvData:
    """RFC 2782; the target is a full name without the final dot."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class TxtData:
    """RFC 1035 section 3.3.14; each string at most 255 octets."""

    strings: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class NameData:
    """The data of PTR and NS: a full name without the final dot."""

    name: str


@dataclass(frozen=True, slots=True)
class SoaData:
    """RFC 1035 section 3.3.13. Times are seconds; ``minimum`` is the negative TTL (RFC 2308)."""

    primary: str
    mailbox: str
    serial: int
    refresh: int
    retry: int
    expire: int
    minimum: int


@dataclass(frozen=True, slots=True)
class HinfoData:
    """RFC 8482 section 4.2: the minimal answer to ANY."""

    cpu: str
    os: str


Data = IPAddress | SrvData | TxtData | NameData | SoaData | HinfoData


@dataclass(frozen=True, slots=True)
class Record:
    """A resource record. ``owner`` None stands for the name that was asked."""

    type: int
    ttl: int
    data: Data
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Data. ``records`` are a set whose order rotates (unless ``rotate`` is off); ``extra`` goes along
    where it fits.

    ``depends`` are the relative names whose change makes this answer wrong; with none it must
    not be kept.
    """

    records: tuple[Record, ...]
    extra: tuple[Record, ...] = ()
    depends: tuple[str, ...] = ()
    rotate: bool = True


@dataclass(frozen=True, slots=True)
class NoData:
    """The name exists, data of that type does not (RFC 2308 section 2.2)."""

    soa: Record
    depends: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NxDomain:
    """Neither the name nor any name below it exists (RFC 2308 section 2.1, RFC 8020)."""

    soa: Record
    depends: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fail:
    """The truth is not known (SERVFAIL)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Not for this asker (REFUSED)."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotOurs:
    """Somebody else's name: to be forwarded where that is allowed."""


@dataclass(frozen=True, slots=True)
class Later:
    """Known only once somebody else was asked what ``lookup`` says; the reply waits for that."""

    lookup: object


Outcome = Answer | NoData | NxDomain | Fail | Refused | NotOurs | Later
