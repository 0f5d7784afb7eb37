"""Which signals mean that a container is about to go, and for how long that is believed. Pure.

The engine's ``kill`` event comes seconds before ``die``; clients that are still sent there in
between meet a server that no longer accepts (docs/names.md, "Drain").
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from discoverd.model import State

if TYPE_CHECKING:
    from discoverd.model import Instance
    from discoverd.sources.docker.parse import Container

#: Signals that servers are told to reload or reopen their logs by.
LIVES_ON = frozenset({signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH})
DEFAULT_GRACE = 10.0  # seconds, the engine's own default
#: Seconds; a container without a limit (StopTimeout -1) is looked at again after this.
MAX_GRACE = 3600.0
#: Seconds beyond the grace, for the engine to have sent SIGKILL and seen the end.
MARGIN = 1.0
_SIGRTMIN = 34  # as the engine counts, whatever this machine's libc does


def signal_number(text: str) -> int | None:
    """``15``, ``TERM``, ``SIGTERM`` or ``SIGRTMIN+3`` as a number; None for anything else."""
    if text.isascii() and text.isdigit():
        return int(text) or None
    name = text.upper().removeprefix("SIG")
    base, _, offset = name.partition("+")
    if base == "RTMIN" and (not offset or offset.isdecimal()):
        return _SIGRTMIN + int(offset or 0)
    found = signal.Signals.__members__.get(f"SIG{name}")
    return None if found is None else int(found)


def stop_signal_of(text: str) -> int:
    """A container's own stop signal (``Config.StopSignal``), SIGTERM unless it says otherwise."""
    return signal_number(text) or int(signal.SIGTERM)


def grace_of(value: Any) -> float:
    """Seconds between a container's stop signal and SIGKILL (``Config.StopTimeout``)."""
    if isinstance(value, bool) or not isinstance(value, int):
        return DEFAULT_GRACE
    return float(min(value, MAX_GRACE)) if value >= 0 else MAX_GRACE


@dataclass(frozen=True, slots=True)
class Drain:
    """A container that was sent its stop signal: gone at ``until`` (monotonic seconds), or it lives on."""

    started_at: float
    until: float

    def holds(self, container: Container, now: float) -> bool:
        """Whether this still is the container's same run, within its time."""
        return container.running and container.started_at == self.started_at and now < self.until


def begins(container: Container, sent: str, now: float) -> Drain | None:
    """What a ``kill`` event with the signal ``sent`` starts, if anything.

    An engine that does not name the signal (Podman) starts nothing: its ``die`` will tell.
    """
    number = signal_number(sent)
    if number is None or not container.running or (number in LIVES_ON and number != container.stop_signal):
        return None
    return Drain(container.started_at, now + container.grace + MARGIN)


def draining(instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
    """The same instances, on their way out; those that could not answer anyway stay as they are."""
    return tuple(replace(i, state=State.DRAINING) if i.state is State.RUNNING else i for i in instances)
