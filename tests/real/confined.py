"""What a container's first process may do, as its kernel says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tests.real.engine import Engine

_PROGRAM = "print(open('/proc/1/status').read(), open('/proc/1/mounts').read(), sep='---')"


@dataclass(frozen=True)
class Confined:
    """Its capabilities (in hexadecimal), those it could get, and what else holds it."""

    has: str
    can_get: str
    no_new_privileges: bool
    system_calls_filtered: bool
    root_read_only: bool

    @classmethod
    def of(cls, engine: Engine, container: str) -> Self:
        status, mounts = engine.docker("exec", container, "python", "-c", _PROGRAM).split("---")
        fields = {
            key: value.strip() for key, _, value in (line.partition(":") for line in status.splitlines())
        }
        (has,) = {fields[key] for key in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
        (root,) = [line.split() for line in mounts.splitlines() if line.split()[1] == "/"]
        return cls(
            has,
            fields["CapBnd"],
            fields["NoNewPrivs"] == "1",
            fields["Seccomp"] == "2",
            "ro" in root[3].split(","),
        )
