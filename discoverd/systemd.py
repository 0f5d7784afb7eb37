"""What the service manager and this process tell each other.

sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3). Plain datagrams and variables, so that nothing of
systemd is needed to run or to test it, and others that speak the same work as well.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import MutableMapping

log = logging.getLogger(__name__)

#: The first descriptor that is passed, sd_listen_fds(3).
_FIRST: Final = 3
#: What ``FileDescriptorName=`` calls sockets for HTTP; all others are for DNS.
HTTP: Final = "http"


class PassedError(Exception):
    """What was passed to this process is not what was said; the text is one line."""


@dataclass(frozen=True, slots=True)
class Passed:
    """Sockets that were opened for this process: those for DNS by what they are, those for HTTP by name."""

    dns: tuple[socket.socket, ...] = ()
    http: tuple[socket.socket, ...] = ()


NONE_PASSED: Final = Passed()


def passed_sockets(environ: MutableMapping[str, str]) -> Passed:
    """The sockets of ``LISTEN_FDS``, if it is this process that they are for; children will not see them.

    Raises PassedError where a descriptor is no socket.
    """
    pid, count, names = (environ.pop(key, "") for key in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count.isdecimal():
        return Passed()
    named = names.split(":")
    dns: list[socket.socket] = []
    http: list[socket.socket] = []
    for number in range(int(count)):
        try:
            sock = socket.socket(fileno=_FIRST + number)
        except OSError as error:
            raise PassedError(
                f"LISTEN_FDS={count} says that descriptor {_FIRST + number} is a socket to listen on: {error}"
            ) from None
        sock.set_inheritable(False)
        sock.setblocking(False)
        (http if named[number : number + 1] == [HTTP] else dns).append(sock)
    return Passed(tuple(dns), tuple(http))


class Manager:
    """The service manager of ``NOTIFY_SOCKET``; without one all of this does nothing."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        # Taken out, so that what runs below this process does not speak in its name.
        self._path = environ.pop("NOTIFY_SOCKET", "")
        pid, microseconds = environ.pop("WATCHDOG_PID", ""), environ.pop("WATCHDOG_USEC", "")
        mine = pid in {"", str(os.getpid())} and microseconds.isdecimal()
        #: Seconds without a word after which the manager ends this process; 0: it does not look.
        self.watchdog_seconds = int(microseconds) / 1e6 if mine else 0.0

    def ready(self, status: str) -> None:
        self._say("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        # Since systemd 253 the time is part of it: what was said before does not count.
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    async def watch(self) -> None:
        """Say that the event loop turns, twice in the time that the manager allows; for ever.

        A loop that is blocked says nothing, and the manager starts the process anew.
        """
        while True:
            self._say("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_seconds / 2)

    def _say(self, *lines: str) -> None:
        if not self._path:
            return
        # "@" stands for the null octet of an abstract address, unix(7)
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("the service manager at %s cannot be told %s: %s", self._path, lines[0], error)
