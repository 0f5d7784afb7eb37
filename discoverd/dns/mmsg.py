"""recvmmsg(2) and sendmmsg(2): many datagrams with one system call, through ctypes.

A :class:`Batch` owns the arrays that the kernel fills and reads. What changes from batch to batch
is offered as *columns*: strided memoryviews over the same field of all messages, so that one
assignment sets it for all of them (6 ns a datagram; one ctypes field access costs over 100).
"""

from __future__ import annotations

import ctypes
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING, Final

from discoverd.datagrams import (
    IOVEC_SIZE,
    MMSGHDR_SIZE,
    MSG_DONTWAIT,
    MSG_WAITFORONE,
    Iovec,
    Mmsghdr,
    address,
    available,
    calls,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: The same calls without checks of their arguments, which take as long as an empty call: what is an address
#: is given as ctypes.byref(), and the number of an error is not asked for.
_quick = ctypes.PyDLL(None)
#: The same, for the one call that waits: others of this process may go on meanwhile.
_slow = ctypes.CDLL(None)

__all__ = ["address", "available"]

#: Datagrams a call. Measured here: 1: 0.45, 4: 0.8, 16: 0.95, 64: 1.0, 128: 1.03 of the throughput.
BATCH: Final = 128
#: Datagrams up to which they are faster one by one: what passes over a batch take besides is as much as 16.
FEW: Final = 12
#: A slot: room, a query's id and what follows, its mark, which says how many octets came. Longer queries run
#: over into OVERFLOW; short slots keep a whole batch within the cache.
MARK: Final = struct.Struct("=I4x")
ID_AT: Final = 6
ID_SIZE: Final = 2
QUERY_AT: Final = ID_AT + ID_SIZE
QUESTION_AT: Final = ID_AT + 12
KEYED: Final = 96
MARK_AT: Final = QUERY_AT + KEYED
SLOT: Final = MARK_AT + MARK.size
#: Octets of a key: what of a query stands in a slot behind its id, and the mark.
KEY_SIZE: Final = SLOT - QUERY_AT
OVERFLOW: Final = 4096
#: Octets of what stands at the end of one reply alone: a cookie.
END: Final = 24
#: Octets of a reply that is written here and not prebuilt elsewhere.
REPLY_SLOT: Final = 4352
#: Octets of a socket address and of control data (one in_pktinfo or in6_pktinfo), rounded up.
NAME_SLOT: Final = 32
CONTROL_SLOT: Final = 64

#: A struct timeval: how long :attr:`Batch.wait` waits. The kernel counts by its own ticks of 1 to 10 ms.
WAIT: Final = struct.pack("@ll", 0, 1000)

PARTS: Final = 4  # iovecs set aside for each message
#: Where a reply, all of it behind its id, lies: address and octets; then a number of the caller's.
PLACE: Final = struct.Struct("@3Q")
#: What follows where the rest of it is elsewhere: octets of the question as it was asked that are put in
#: behind the first piece; address and octets of what comes last. Zeros where nothing does.
REST: Final = struct.Struct("@3Q")
NO_REST: Final = bytes(REST.size)
WHOLE: Final = 2  # iovecs of a reply of one piece: its id, and the piece
#: By count: cuts the keys out of that many slots, at a tenth of what it takes to slice them one by one.
_KEYS: Final = tuple(struct.Struct(f"{QUERY_AT}x{KEY_SIZE}s" * count) for count in range(BATCH + 1))
_ZEROS: Final = memoryview(bytes(SLOT * BATCH))
EMPTY_SLOT: Final = bytes(SLOT)


def key(query: bytes) -> bytes:
    """What :meth:`Batch.keys` gives for a query, here without its id, of at most KEYED octets.

    With the mark no two queries have the same key, although both may be filled up with zeros.
    """
    return query.ljust(KEYED, b"\0") + MARK.pack(len(query) + 2)


class Batch:
    """Arrays for one socket's datagrams. A message's id is received right where it is sent from.

    Columns, each with one item a message: ``lengths`` and ``received`` (octets, in 32 and 64 bits), ``ids``,
    ``addresses`` (IPv4 only), ``marks``; ``bases`` and ``sizes`` of replies. Where nothing is received into a
    slot, it is all zeros.
    """

    def __init__(self, sock: socket.socket, *, control: int) -> None:
        """``control`` is the exact size of the control data to receive and send, 0 for none.

        Because it is exact, the kernel leaves the lengths as they are, and the data goes back as
        it came: a reply leaves from the address that was asked, at no cost.
        """
        assert calls is not None
        self._fd = sock.fileno()
        self.names = ctypes.create_string_buffer(NAME_SLOT * BATCH)
        self.controls = ctypes.create_string_buffer(CONTROL_SLOT * BATCH)
        self._control = control
        #: How many messages the slots hold.
        self.taken = 0
        self._namelen = 28 if sock.family == socket.AF_INET6 else 16
        self._queries = ctypes.create_string_buffer(SLOT * BATCH)
        self._overflow = ctypes.create_string_buffer(OVERFLOW * BATCH)
        self._replies = ctypes.create_string_buffer(REPLY_SLOT * BATCH)
        self._ends = ctypes.create_string_buffer(END * BATCH)
        ends_at = ctypes.addressof(self._ends)
        self._end_octets, self._ended = memoryview(self._ends).cast("B"), 0
        self._rests = [REST.pack(0, ends_at + END * i, END) for i in range(BATCH)]
        self._in, self._out = (Mmsghdr * BATCH)(), (Mmsghdr * BATCH)()
        self._in_parts, self._out_parts = (Iovec * (PARTS * BATCH))(), (Iovec * (PARTS * BATCH))()
        for i in range(BATCH):
            own_id = ctypes.addressof(self._queries) + SLOT * i + ID_AT
            overflow = ctypes.addressof(self._overflow) + OVERFLOW * i
            self._set(self._in, self._in_parts, i, [(own_id, MARK_AT - ID_AT), (overflow, OVERFLOW)])
            question = ctypes.addressof(self._queries) + SLOT * i + QUESTION_AT
            self._set(self._out, self._out_parts, i, [(own_id, 2), (0, 0), (question, 0), (0, 0)])
        self._out_at = ctypes.addressof(self._out)
        self._receive = partial(_quick.recvmmsg, self._fd, ctypes.byref(self._in), BATCH, MSG_DONTWAIT, None)
        #: Like :meth:`receive` for a socket that blocks, after the first slot was made empty: waits for the
        #: first message, at most as long as the socket's time-out says. Not positive where none came.
        self.wait: Callable[[], int] = partial(
            _slow.recvmmsg, self._fd, ctypes.byref(self._in), BATCH, MSG_WAITFORONE, None
        )
        #: Sends the first message alone; returns 1 where the kernel took it.
        self.send_first: Callable[[], int] = partial(
            _quick.sendmmsg, self._fd, ctypes.byref(self._out), 1, MSG_DONTWAIT
        )

        words = memoryview(self._in).cast("B").cast("I")
        self.lengths = words[14::16]
        # with the four octets behind them, which nobody writes to
        self.received = memoryview(self._in).cast("B").cast("Q")[7::8]
        self.addresses = memoryview(self.names).cast("B").cast("I")[1 :: NAME_SLOT // 4]
        halves = memoryview(self.names).cast("B").cast("Q")
        six = halves[1 :: NAME_SLOT // 8], halves[2 :: NAME_SLOT // 8]
        self._who = six if sock.family == socket.AF_INET6 else (self.addresses,)
        words = memoryview(self._out_parts).cast("B").cast("Q")
        self.bases, self.sizes = words[2::8], words[3::8]
        self._last = words[5::8], words[6::8], words[7::8]
        self._used_parts = memoryview(self._out).cast("B").cast("Q")[3::8]
        self.parts = PARTS
        self.sockaddrs = memoryview(self.names).cast("B")
        self.control_data = memoryview(self.controls).cast("B")
        self.queries = memoryview(self._queries).cast("B")
        self.first_slot = self.queries[:SLOT]
        #: Of the first FEW messages: keys once they are marked; addresses where they are IPv6.
        self.few_keys = [self.queries[SLOT * i + QUERY_AT : SLOT * (i + 1)] for i in range(FEW)]
        self.few_askers = [
            self.sockaddrs[NAME_SLOT * i + 8 : NAME_SLOT * i + 24]
            for i in range(FEW if sock.family == socket.AF_INET6 else 0)
        ]
        self.ids = self.queries.cast("H")[ID_AT // 2 :: SLOT // 2]
        self.marks = self.queries.cast("Q")[MARK_AT // MARK.size :: SLOT // MARK.size]
        self.overflows = memoryview(self._overflow).cast("B")
        self.replies = memoryview(self._replies).cast("B")
        self.replies_at = ctypes.addressof(self._replies)

    def _set(
        self,
        messages: ctypes.Array[Mmsghdr],
        parts: ctypes.Array[Iovec],
        i: int,
        wanted: list[tuple[int, int]],
    ) -> None:
        header = messages[i].header
        header.name, header.namelen = ctypes.addressof(self.names) + NAME_SLOT * i, self._namelen
        header.iov, header.iovlen = ctypes.addressof(parts) + PARTS * IOVEC_SIZE * i, len(wanted)
        if self._control:
            header.control = ctypes.addressof(self.controls) + CONTROL_SLOT * i
            header.controllen = self._control
        for k, (base, length) in enumerate(wanted):
            parts[PARTS * i + k].base, parts[PARTS * i + k].length = base, length

    def receive(self) -> int:
        """Take what is there, at most BATCH datagrams; 0 where nothing is."""
        self.make_room()
        taken: int = self._receive()
        self.taken = taken = max(taken, 0)
        return taken

    def make_room(self) -> None:
        """Empty the slots that something was received into."""
        if self.taken == 1:
            self.first_slot[:] = EMPTY_SLOT
        elif self.taken:
            self.queries[: SLOT * self.taken] = _ZEROS[: SLOT * self.taken]

    def keys(self, count: int) -> tuple[bytes, ...]:
        """The key of each of the first so many messages: KEYED octets from behind its id on, and its mark."""
        self.marks[:count] = self.received[:count]
        self._ended = 0
        return _KEYS[count].unpack_from(self._queries)

    def one_asker(self, count: int) -> bool:
        """Whether the first so many messages came from one address: each from that of the one before."""
        first, *others = self._who
        return first[1:count] == first[: count - 1] and all(c[1:count] == c[: count - 1] for c in others)

    def place(self, places: bytes, count: int) -> list[int]:
        """Say where the replies to the first so many messages lie: a PLACE each, or a PLACE and a REST each;
        the octets must stay there until they are sent. Returns the numbers.
        """
        words = memoryview(places).cast("Q")
        step = len(words) // count
        self.bases[:count], self.sizes[:count] = words[::step], words[1::step]
        whole = step == PLACE.size // words.itemsize
        if not whole:
            for column, wanted in enumerate(self._last, 3):
                wanted[:count] = words[column::step]
        parts = WHOLE if whole else PARTS
        if parts != self.parts:
            self.use(parts)
        return words[2::step].tolist()

    def use(self, parts: int) -> None:
        """Send that many parts of each message, its id among them."""
        self.parts = parts
        self._used_parts[:] = memoryview(struct.pack("@Q", parts) * BATCH).cast("Q")

    def put_ends(self, ends: Sequence[bytes]) -> list[bytes]:
        """Keep the ends of some replies of this batch, END octets each; the REST of each."""
        first = self._ended
        self._ended = first + len(ends)
        octets = b"".join(ends)
        self._end_octets[END * first : END * self._ended] = octets
        return self._rests[first : self._ended]

    def reply(self, i: int) -> bytes:
        """What the reply to a message was told to be, its id included."""
        own_id = SLOT * i + ID_AT
        parts = self._out_parts[PARTS * i + 1 : PARTS * i + self.parts]
        pieces = (ctypes.string_at(part.base, part.length) for part in parts if part.length)
        return b"".join((bytes(self.queries[own_id : own_id + 2]), *pieces))

    def send(self, first: int, last: int) -> int:
        """Send messages first to last, the last left out; returns how many the kernel did not take."""
        return send_all(self._fd, self._out_at, first, last)


def send_all(fd: int, at: int, first: int, last: int) -> int:
    """Send messages first to last, the last left out, of those that lie at an address; returns how many
    the kernel did not take.
    """
    assert calls is not None
    dropped = 0
    while first < last:
        sent: int = calls.sendmmsg(fd, at + MMSGHDR_SIZE * first, last - first, MSG_DONTWAIT)
        if sent < last - first:
            dropped += 1  # the one that failed is skipped, the others are none the worse for it
            sent = max(sent, 0) + 1
        first += sent
    return dropped


def messages(
    sock: socket.socket,
    names: ctypes.Array[ctypes.c_char],
    controls: ctypes.Array[ctypes.c_char],
    control: int,
) -> tuple[ctypes.Array[Mmsghdr], ctypes.Array[Iovec]]:
    """BATCH messages of one part each, whose addresses and control data lie in these slots."""
    made, parts = (Mmsghdr * BATCH)(), (Iovec * BATCH)()
    for i in range(BATCH):
        header = made[i].header
        header.name = ctypes.addressof(names) + NAME_SLOT * i
        header.namelen = 28 if sock.family == socket.AF_INET6 else 16
        header.iov, header.iovlen = ctypes.addressof(parts) + IOVEC_SIZE * i, 1
        if control:
            header.control, header.controllen = ctypes.addressof(controls) + CONTROL_SLOT * i, control
    return made, parts
