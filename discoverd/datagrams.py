"""recvmmsg(2) and sendmmsg(2), many datagrams with one system call, through ctypes; and what uses them for
sockets that are connected.
"""

from __future__ import annotations

import ctypes
import errno
import os
from array import array
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

MSG_DONTWAIT: Final = 0x40
MSG_WAITFORONE: Final = 0x10000
#: Fewer than that are faster with a call each: one alone takes 13 instead of 35 µs.
FEW: Final = 3


class Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class Mmsghdr(ctypes.Structure):
    _fields_ = (("header", Msghdr), ("length", ctypes.c_uint32))


#: Octets of these as they are written down here.
IOVEC_SIZE: Final = 16
MMSGHDR_SIZE: Final = 64


def available() -> bool:
    """Whether this machine has the calls, in the layout that is written down here (64-bit Linux)."""
    return calls is not None and ctypes.sizeof(Mmsghdr) == MMSGHDR_SIZE and ctypes.sizeof(Iovec) == IOVEC_SIZE


def _find_calls() -> ctypes.PyDLL | None:
    # PyDLL keeps the interpreter lock: these calls do not block, and giving it away costs more
    try:
        library = ctypes.PyDLL(None, use_errno=True)
        library.recvmmsg.argtypes = (
            ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p,
        )  # fmt: skip
        library.sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
    except (OSError, AttributeError):
        return None
    return library


calls = _find_calls()


def address(octets: bytes) -> int:
    """Where these octets lie for as long as somebody holds them."""
    return ctypes.cast(ctypes.c_char_p(octets), ctypes.c_void_p).value or 0


class OneByOne:
    """A system call for each datagram of a connected socket."""

    #: Datagrams that are received at a time.
    batch: int = 64
    #: Octets read of one datagram.
    largest: int = 4096

    def receive(self, sock: socket.socket, most: int) -> Sequence[bytes]:
        """What has come, at most so many and ``batch``: fewer, and there are no more. Raises OSError."""
        found: list[bytes] = []
        try:
            while len(found) < min(most, self.batch):
                found.append(sock.recv(self.largest))
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            if not found:
                raise
        return found

    def send(self, sock: socket.socket, packets: Sequence[bytes]) -> list[tuple[int, str]]:
        """Send all of them; the numbers of those that could not be, and why."""
        failed = []
        for number, packet in enumerate(packets):
            try:
                sock.send(packet)
            except OSError as error:
                failed.append((number, error.strerror or str(error)))
        return failed


class Many(OneByOne):
    """The same with many in each system call."""

    #: A slot, that short datagrams are cut out of; what is longer runs over. Short slots stay in the cache.
    SLOT: Final = 512

    def __init__(self) -> None:
        count, over = self.batch, self.largest - self.SLOT
        self._slots = ctypes.create_string_buffer(self.SLOT * count)
        self._overflow = ctypes.create_string_buffer(over * count)
        self._in, self._in_parts = (Mmsghdr * count)(), (Iovec * (2 * count))()
        self._out, self._out_parts = (Mmsghdr * count)(), (Iovec * count)()
        for i in range(count):
            self._in[i].header.iov = ctypes.addressof(self._in_parts) + 2 * IOVEC_SIZE * i
            self._in[i].header.iovlen = 2
            slot, rest = self._in_parts[2 * i], self._in_parts[2 * i + 1]
            slot.base, slot.length = ctypes.addressof(self._slots) + self.SLOT * i, self.SLOT
            rest.base, rest.length = ctypes.addressof(self._overflow) + over * i, over
            self._out[i].header.iov = ctypes.addressof(self._out_parts) + IOVEC_SIZE * i
            self._out[i].header.iovlen = 1
        self._in_at, self._out_at = ctypes.addressof(self._in), ctypes.addressof(self._out)
        self._lengths = memoryview(self._in).cast("B").cast("I")[14::16]
        self._received, self._over = memoryview(self._slots).cast("B"), memoryview(self._overflow).cast("B")
        words = memoryview(self._out_parts).cast("B").cast("Q")
        self._bases, self._sizes = words[::2], words[1::2]

    def receive(self, sock: socket.socket, most: int) -> Sequence[bytes]:
        if most < FEW:
            return super().receive(sock, most)
        assert calls is not None
        most = min(most, self.batch)
        count: int = calls.recvmmsg(sock.fileno(), self._in_at, most, MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            if number in {errno.EAGAIN, errno.EINTR}:
                return ()
            raise OSError(number, os.strerror(number))
        octets, slot = self._received[: self.SLOT * count].tobytes(), self.SLOT
        lengths = self._lengths[:count].tolist()
        found = [
            octets[at : at + size] for at, size in zip(range(0, len(octets), slot), lengths, strict=True)
        ]
        if count and max(lengths) > slot:
            for i in [i for i in range(count) if lengths[i] > slot]:
                at = (self.largest - slot) * i
                found[i] = octets[slot * i : slot * (i + 1)] + bytes(self._over[at : at + lengths[i] - slot])
        return found

    def send(self, sock: socket.socket, packets: Sequence[bytes]) -> list[tuple[int, str]]:
        if len(packets) < FEW:
            return super().send(sock, packets)
        failed = []
        for first in range(0, len(packets), self.batch):
            some = packets[first : first + self.batch]
            count, whole = len(some), b"".join(some)
            sizes = array("Q", map(len, some))
            bases = array("Q", accumulate(sizes, initial=address(whole)))
            self._sizes[:count], self._bases[:count] = memoryview(sizes), memoryview(bases)[:count]
            failed += [(first + number, why) for number, why in self._send(sock.fileno(), count)]
        return failed

    def _send(self, fd: int, count: int) -> list[tuple[int, str]]:
        assert calls is not None
        done, failed = 0, []
        while done < count:
            sent: int = calls.sendmmsg(fd, self._out_at + MMSGHDR_SIZE * done, count - done, MSG_DONTWAIT)
            if sent <= 0:  # the first of them could not be
                failed.append((done, os.strerror(ctypes.get_errno())))
                sent = 1
            done += sent
        return failed


@cache
def best() -> OneByOne:
    """Whatever this machine is capable of: the same for all sockets, of one thread."""
    return Many() if available() else OneByOne()
