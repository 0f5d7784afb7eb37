"""What all TCP connections of a server share: how many there may be, and the loop's time."""

from __future__ import annotations

import resource
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final

from discoverd.dns.overload import Turns

if TYPE_CHECKING:
    from discoverd.dns.tcp import Connection

#: Connections in all and from one address. Beyond the first the one that was idle for longest makes room,
#: if that was for so many seconds or its client has more than who comes; else who comes is closed at once.
CONNECTIONS_MOST: Final = 4096
CONNECTIONS_PER_CLIENT: Final = 256
IDLE_ENOUGH: Final = 2.0
#: Connections that are looked at for that.
LOOKED_AT: Final = 64


class Limits:
    """What all listening sockets of a server share."""

    def __init__(self) -> None:
        self.connections = self.held = self.transfers = 0
        self.per_client: Counter[str] = Counter()
        self.turns = Turns()
        #: In the order of their last progress.
        self._open: dict[Connection, None] = {}
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        #: Half of the files that this process may open are left for all else.
        self._most = CONNECTIONS_MOST if files < 0 else min(CONNECTIONS_MOST, files // 2)

    def admit(self, client: str) -> bool:
        if self.per_client[client] >= CONNECTIONS_PER_CLIENT:
            return False
        if self.connections >= self._most and not self._make_room(client):
            return False
        self.connections += 1
        self.per_client[client] += 1
        return True

    def progressed(self, connection: Connection) -> None:
        self._open.pop(connection, None)
        self._open[connection] = None

    def forget(self, connection: Connection) -> None:
        self._open.pop(connection, None)

    def _make_room(self, client: str) -> bool:
        held = self.per_client[client] + 1
        for connection in islice(self._open, LOOKED_AT):
            idle = connection.idle
            if idle >= IDLE_ENOUGH or (idle and self.per_client[connection.peer] > held):
                del self._open[connection]
                connection.close(at_once=True)
                return True
        return False

    def release(self, client: str) -> None:
        self.connections -= 1
        self.per_client[client] -= 1
        if not self.per_client[client]:
            del self.per_client[client]
