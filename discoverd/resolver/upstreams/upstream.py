"""Where a name server is, as it was configured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Upstream:
    """A name server's address. ``tls``: by DNS over TLS (RFC 7858) only; ``name`` is then what its
    certificate must be for (without one: its address), ``authority`` the path of a PEM file that goes
    in place of the machine's authorities.
    """

    host: str
    port: int = 53
    tls: bool = False
    name: str = ""
    authority: str = ""

    def __str__(self) -> str:
        where = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        return f"tls://{where}{'#' * bool(self.name)}{self.name}" if self.tls else where
