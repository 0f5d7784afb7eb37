"""Replies that were not ready with their batch: gathered for one turn of the event loop, sent in one call."""

from __future__ import annotations

import ctypes
from array import array
from itertools import accumulate
from typing import TYPE_CHECKING

from discoverd.dns import mmsg
from discoverd.dns.mmsg import BATCH, CONTROL_SLOT, NAME_SLOT

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence


class Outbox:
    """The arrays for one socket's late replies. ``control`` is the exact size of each one's control data."""

    def __init__(self, sock: socket.socket, *, control: int) -> None:
        self._sock = sock
        self._names = ctypes.create_string_buffer(NAME_SLOT * BATCH)
        self._controls = ctypes.create_string_buffer(CONTROL_SLOT * BATCH)
        self._messages, self._parts = mmsg.messages(sock, self._names, self._controls, control)
        words = memoryview(self._parts).cast("B").cast("Q")
        self._bases, self._sizes = words[::2], words[1::2]
        self._sockaddrs = memoryview(self._names).cast("B")
        self._control = memoryview(self._controls).cast("B") if control else None

    def send(self, replies: Sequence[bytes], peers: Sequence[bytes], controls: Sequence[bytes]) -> int:
        """Send each to its peer (a sockaddr slot), leaving from where its control data says. Returns how
        many the kernel did not take.
        """
        dropped = 0
        for first in range(0, len(replies), BATCH):
            some = replies[first : first + BATCH]
            count, whole = len(some), b"".join(some)
            sizes = array("Q", map(len, some))
            bases = array("Q", accumulate(sizes, initial=mmsg.address(whole)))
            self._sizes[:count], self._bases[:count] = memoryview(sizes), memoryview(bases)[:count]
            self._sockaddrs[: NAME_SLOT * count] = b"".join(peers[first : first + BATCH])
            if self._control is not None:
                self._control[: CONTROL_SLOT * count] = b"".join(controls[first : first + BATCH])
            dropped += mmsg.send_all(self._sock.fileno(), ctypes.addressof(self._messages), 0, count)
        return dropped
