"""UDP endpoints that are timed by the batch, and those that also log what they send.

Which of them serves is chosen once: without a query log, nothing of it is ever looked at.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from discoverd.dns import mmsg
from discoverd.dns.batched import BatchedEndpoint
from discoverd.dns.mmsg import ID_SIZE, NAME_SLOT
from discoverd.dns.observer import FAST, UDP, clock
from discoverd.dns.udp import UdpEndpoint

if TYPE_CHECKING:
    import socket

    from discoverd.dns.handler import Handler
    from discoverd.dns.observer import Log
    from discoverd.dns.udp import Ancillary, Forward, Peer


class TimedBatches(BatchedEndpoint):
    """All questions of a batch wait for its last one, so each took what the batch did."""

    def __init__(self, sock: socket.socket, handler: Handler, forward: Forward) -> None:
        self._times = handler.observer.times[FAST]
        super().__init__(sock, handler, forward, self._times)

    def _answer_batch(self, count: int) -> None:
        began, slow = clock(), self.slow
        super()._answer_batch(count)
        if fast := count - (self.slow - slow):
            self._times.add(clock() - began, fast)


class LoggedBatches(TimedBatches):
    """The same with a query log: replies are read from where the kernel was told that they lie."""

    def __init__(self, sock: socket.socket, handler: Handler, forward: Forward, log: Log) -> None:
        super().__init__(sock, handler, forward)
        self._log = log
        self._own = None if self._bound is None else (self._bound, int(sock.getsockname()[1]))

    def _answer_lone(self) -> bool:
        return False  # what is logged goes the general way

    def _answer_batch(self, count: int) -> None:
        now, began = time.time_ns(), clock()
        super()._answer_batch(count)
        picked = self._log.pick(count)
        if not picked:
            return
        took, batch, own = clock() - began, self._batch, self._own
        peers = bytes(batch.sockaddrs[: NAME_SLOT * count])
        replies = ((i, batch.reply(i)) for i in picked)
        # without octets behind the id there is no reply, or none yet
        self._log.take([
            (now, took, UDP, peers[NAME_SLOT * i : NAME_SLOT * (i + 1)], own, reply, False)
            for i, reply in replies
            if len(reply) > ID_SIZE
        ])  # fmt: skip


class LoggedDatagrams(UdpEndpoint):
    """With a query log, where datagrams come one by one."""

    def __init__(self, sock: socket.socket, handler: Handler, forward: Forward, log: Log) -> None:
        super().__init__(sock, handler, forward)
        self._log = log

    def _answer(self, packet: bytes, peer: Peer, ancillary: Ancillary) -> bytes | None:
        now, began = time.time_ns(), clock()
        reply = super()._answer(packet, peer, ancillary)
        if reply is not None and self._log.pick(1):
            self._log.take([(now, clock() - began, UDP, peer[:2], None, packet[:2] + reply, False)])
        return reply


def endpoint(sock: socket.socket, handler: Handler, forward: Forward) -> UdpEndpoint:
    """The fastest endpoint that this machine has the system calls for, and that logs what is to be."""
    log = handler.observer.log
    if not mmsg.available():
        return LoggedDatagrams(sock, handler, forward, log) if log else UdpEndpoint(sock, handler, forward)
    return LoggedBatches(sock, handler, forward, log) if log else TimedBatches(sock, handler, forward)
