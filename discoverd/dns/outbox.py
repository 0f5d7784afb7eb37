"""Replies of one socket that were not ready with their batch: gathered, and sent in one call."""

from __future__ import annotations

import asyncio
import ctypes
from array import array
from itertools import accumulate
from typing import TYPE_CHECKING

from discoverd.dns import mmsg
from discoverd.dns.mmsg import BATCH, CONTROL_SLOT, NAME_SLOT

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from discoverd.dns.observer import Observer
    from discoverd.dns.store import Store

    #: A reply, the sockaddr and control data that its query came with, where it is counted, and when work
    #: on it began.
    Late = tuple[bytes, bytes, bytes, int, int]


class Outbox:
    """``control`` is the exact size of each one's control data. ``dropped`` counts what the kernel did not
    take.
    """

    def __init__(self, sock: socket.socket, observer: Observer, *, control: int) -> None:
        self._sock, self._observer = sock, observer
        self._names = ctypes.create_string_buffer(NAME_SLOT * BATCH)
        self._controls = ctypes.create_string_buffer(CONTROL_SLOT * BATCH)
        self._messages, self._parts = mmsg.messages(sock, self._names, self._controls, control)
        words = memoryview(self._parts).cast("B").cast("Q")
        self._bases, self._sizes = words[::2], words[1::2]
        self._sockaddrs = memoryview(self._names).cast("B")
        self._control = memoryview(self._controls).cast("B") if control else None
        self._held: list[Late] = []
        self.dropped = 0

    def later(self, peer: bytes, control: bytes, store: Store, began: int, reply: bytes) -> None:
        """Send a reply with all others that come in this turn of the event loop."""
        if not self._held:
            asyncio.get_running_loop().call_soon(self._send_held)
        self._held.append((reply, peer, control, self._observer.number(store, reply), began))

    def _send_held(self) -> None:
        held, self._held = self._held, []
        self.send(held)

    def send(self, late: Sequence[Late]) -> None:
        """Send replies, each leaving from the address that was asked."""
        if not late or self._sock.fileno() < 0:
            return
        for first in range(0, len(late), BATCH):
            replies, peers, controls, _, _ = zip(*late[first : first + BATCH], strict=True)
            count, whole = len(replies), b"".join(replies)
            sizes = array("Q", map(len, replies))
            bases = array("Q", accumulate(sizes, initial=mmsg.address(whole)))
            self._sizes[:count], self._bases[:count] = memoryview(sizes), memoryview(bases)[:count]
            self._sockaddrs[: NAME_SLOT * count] = b"".join(peers)
            if self._control is not None:
                self._control[: CONTROL_SLOT * count] = b"".join(controls)
            at = ctypes.addressof(self._messages)
            self.dropped += mmsg.send_all(self._sock.fileno(), at, 0, count)
        self._observer.saw_forwarded(late)
