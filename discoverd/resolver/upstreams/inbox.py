"""One callback for all sockets towards a server, and what came together is given on together."""

from __future__ import annotations

import asyncio
import selectors
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

    from discoverd.resolver.upstreams.flights import Crowd, Flight
    from discoverd.resolver.upstreams.udp import Port

    Arrived = defaultdict[Crowd, list[tuple[Flight, bytes]]]


class Inbox:
    """Reads all sockets in one turn of the event loop: a callback of its own for each cost more than
    reading it.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fd = -1
        self._selector: Any = None

    def add(self, sock: socket.socket, port: Port) -> None:
        if self._selector is None:
            # epoll or kqueue: both can be waited for themselves
            self._selector = selectors.DefaultSelector()
            self._loop = asyncio.get_running_loop()
            self._fd = self._selector.fileno()
            self._loop.add_reader(self._fd, self._read)
        self._selector.register(sock, selectors.EVENT_READ, port)

    def remove(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        if not self._selector.get_map():
            assert self._loop is not None
            self._loop.remove_reader(self._fd)
            self._selector.close()
            self._selector = None

    def _read(self) -> None:
        arrived: Arrived = defaultdict(list)
        for key, _ in self._selector.select(0):
            key.data.read(arrived)
        for crowd, replies in arrived.items():
            crowd.answered(replies)
