"""The services that every server is given, and the questions about them."""

from __future__ import annotations

import hashlib
import random
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOERROR: Final = 0
NXDOMAIN: Final = 3
A_IN: Final = struct.pack(">HH", 1, 1)
TTL: Final = 5
#: The range set aside for benchmarks (RFC 2544, RFC 6890): askers of view i are in 198.18.i.0/24.
ASKERS: Final = "198.18.{}.{}"
#: How fast the registry changes where that is measured.
CHANGES_A_SECOND: Final = 1000


@dataclass(frozen=True)
class Catalog:
    """``services`` names with ``instances`` addresses each, the same for every server."""

    services: int = 1000
    instances: int = 3

    def name(self, number: int) -> str:
        return f"service-{number:04d}"

    def addresses(self, number: int) -> list[str]:
        high, low = divmod(number, 256)
        return [f"10.{64 + high // 256 * 8 + k}.{high % 256}.{low}" for k in range(self.instances)]

    def each(self) -> Iterator[tuple[str, list[str]]]:
        for number in range(self.services):
            yield self.name(number), self.addresses(number)


def wire_name(name: str) -> bytes:
    """RFC 1035 section 3.1."""
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def write_questions(
    path: Path, catalog: Catalog, suffix: str, *, half_unknown: bool = False, first: int | None = None
) -> Path:
    """Write the load generator's file: every name once, in an order that is the same each time.

    ``half_unknown`` puts a name that does not exist beside each that does; ``first`` takes only
    that many services.
    """
    shuffled = random.Random(1)
    numbers = list(range(min(catalog.services, first or catalog.services)))
    records = [(wire_name(f"{catalog.name(n)}.{suffix}"), NOERROR, catalog.instances) for n in numbers]
    if half_unknown:
        for n in numbers:
            label = hashlib.sha256(str(n).encode()).hexdigest()[:12]
            records.append((wire_name(f"{label}.{suffix}"), NXDOMAIN, 0))
    shuffled.shuffle(records)
    with path.open("wb") as file:
        for name, rcode, answers in records:
            question = name + A_IN
            file.write(struct.pack(">HBB", len(question), rcode, answers) + question)
    return path
