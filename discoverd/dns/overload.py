"""What is answered when more is asked than one core can carry.

Whatever has a reply ready takes a few microseconds, whatever goes to the resolver tens of times that. So
when questions have waited in a socket for too long for some time, those for the resolver have half of each
turn, and what comes of them after that is left out: few of them make room for many of the others. Half of
what can be answered is shared out evenly, so that one who floods takes nothing from who asks little. A burst
is no overload: it is answered in turn.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from discoverd.dns.observer import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: An address, as text or as it stands in a sockaddr.
Asker = str | int | bytes

#: Nanoseconds of work on one socket before other work of the loop gets its turn; twice that while
#: questions are left out, half of it for those that are not.
TURN: Final = 5_000_000
#: Nanoseconds that questions may wait in a socket, and for how many they may wait longer than that.
WAIT: Final = 100_000_000
STANDING: Final = 100_000_000
#: Nanoseconds after which shares are looked at anew, and askers that are told apart.
WINDOW: Final = 100_000_000
ASKERS_MOST: Final = 4096

#: linux/socket.h, linux/sock_diag.h: nine numbers, the first of them octets that wait, the last drops.
SO_MEMINFO: Final = 55
MEMINFO: Final = struct.Struct("=9I")
#: Octets that the kernel counts for a datagram of a question's size, at the least.
TRUESIZE: Final = 768


def memory(sock: socket.socket) -> tuple[int, int]:
    """Octets that wait in a socket, datagrams that it had no room for; 0 where the kernel does not say."""
    try:
        told = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size)
    except OSError:
        return 0, 0
    if len(told) != MEMINFO.size:
        return 0, 0
    numbers = MEMINFO.unpack(told)
    return numbers[0], numbers[-1]


class Load:
    """How one socket keeps up. ``shed`` counts the questions that were left out."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._lost = sock, memory(sock)[1]
        #: When the present turn began, on :func:`clock`.
        self._began = 0
        #: Since when questions wait too long; 0 while they do not.
        self.since = 0
        self.shedding = False
        self.shed = 0
        self._dealt = 0
        self._asked: Counter[Asker] = Counter()
        self._answered = 0
        #: What each asker is answered in a window, however little of the turn is left.
        self._share = 0.0

    def begin(self) -> int:
        """Begin a turn; when it ends, on :func:`clock`."""
        self._began = clock()
        return self._began + (2 * TURN if self.shedding else TURN)

    def left_over(self, now: int, count: int) -> None:
        """The turn has ended after so many questions, and there are more."""
        waiting, lost = memory(self._sock)
        each = (now - self._began) / max(count, 1)
        if waiting / TRUESIZE * each < WAIT and lost == self._lost:
            self.since = now if self.shedding else 0
        elif not self.since:
            self.since = now
        elif now - self.since >= STANDING:
            self.shedding = True
        self._lost = lost

    def emptied(self) -> None:
        """Nothing waits any more."""
        self.since, self.shedding = 0, False

    def admits(self, asker: Asker) -> bool:
        """Whether a question for the resolver is answered while others are left out."""
        now = clock()
        if now - self._dealt >= WINDOW:
            self._deal(now)
        known = len(self._asked) < ASKERS_MOST or asker in self._asked
        if known:
            self._asked[asker] += 1
        if now - self._began < TURN or (known and self._asked[asker] <= self._share):
            self._answered += 1
            return True
        self.shed += 1
        return False

    def _deal(self, now: int) -> None:
        self._share = fair_share(self._asked.values(), self._answered // 2)
        self._dealt, self._answered = now, 0
        self._asked.clear()


class Turns:
    """Has the connections of a server share the loop's time: who has much to ask goes on in the next turn."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._begun = False
        self._end = 0

    def over(self) -> bool:
        """Whether the loop is due for other work."""
        now = clock()
        if self._begun:
            return now >= self._end
        self._begun, self._end = True, now + TURN
        asyncio.get_running_loop().call_soon(self._next)
        return False

    def wait(self, go_on: Callable[[], None]) -> None:
        """Have this called when there is time again; :meth:`over` has said that there is none."""
        self._waiting.append(go_on)

    def _next(self) -> None:
        self._begun = False
        while self._waiting and not self.over():
            self._waiting.popleft()()


def fair_share(wanted: Iterable[int], there_is: int) -> float:
    """The most that one may have, so that all is given out and nobody has more who could have less."""
    left, asking = float(there_is), sorted(wanted)
    for position, want in enumerate(asking):
        share = left / (len(asking) - position)
        if want >= share:
            return share
        left -= want
    return float("inf")
