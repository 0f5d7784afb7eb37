"""Many datagrams by one system call, and as where there is no such call: both the same."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest

from discoverd import datagrams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoverd.datagrams import OneByOne

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["one by one", "many"])
def calls(request: pytest.FixtureRequest) -> OneByOne:
    if request.param == "many" and not datagrams.available():
        pytest.skip("this machine has no recvmmsg")
    return datagrams.Many() if request.param == "many" else datagrams.OneByOne()


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two sockets that are connected with each other."""
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_INET, kind) as one, socket.socket(socket.AF_INET, kind) as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        one.connect(other.getsockname())
        other.connect(one.getsockname())
        yield one, other


def everything(calls: OneByOne, sock: socket.socket) -> list[bytes]:
    found: list[bytes] = []
    while True:
        some = calls.receive(sock, calls.batch)
        found += some
        if len(some) < calls.batch:
            return found


def test_what_is_sent_is_received(calls: OneByOne, pair: Pair) -> None:
    one, other = pair
    sizes = (0, 1, 12, 511, 512, 513, 1232, 4095, 4096, *range(20, 220))
    packets = [os.urandom(size) for size in sizes]
    assert calls.send(one, packets) == []
    assert everything(calls, other) == packets
    assert everything(calls, other) == []
    assert calls.send(other, packets[:3]) == []
    assert everything(calls, one) == packets[:3], "nothing is left of what came before"


@pytest.mark.parametrize("most", [1, 2, 3, 70])
def test_no_more_than_is_asked_for(calls: OneByOne, pair: Pair, most: int) -> None:
    one, other = pair
    packets = [bytes((n,)) for n in range(100)]
    calls.send(one, packets)
    first = calls.receive(other, most)
    assert list(first) == packets[: min(most, calls.batch)]
    assert [*first, *everything(calls, other)] == packets


def test_a_longer_one_is_cut_off(calls: OneByOne, pair: Pair) -> None:
    one, other = pair
    long = os.urandom(5000)
    one.send(long)
    assert everything(calls, other) == [long[: calls.largest]]


def test_one_that_cannot_be_sent_does_not_hold_up_the_others(calls: OneByOne, pair: Pair) -> None:
    one, other = pair
    why = os.strerror(errno.EMSGSIZE)
    packets = [b"x" * 70_000, *[bytes((n,)) for n in range(100)], b"x" * 70_000, b"last"]
    assert calls.send(one, packets) == [(0, why), (101, why)]
    assert everything(calls, other) == [*packets[1:101], b"last"]


def test_nobody_is_there(calls: OneByOne, pair: Pair) -> None:
    one, other = pair
    other.close()
    calls.send(one, [b"1"])
    with pytest.raises(ConnectionRefusedError):
        calls.receive(one, calls.batch)
    assert not calls.receive(one, calls.batch)


def test_of_many_to_nobody_one_is_told_of(calls: OneByOne, pair: Pair) -> None:
    """The kernel tells of each once, with whatever is called next; the last one sent is never forgotten."""
    one, other = pair
    other.close()
    for count in range(1, 6):
        failed = calls.send(one, [b"x"] * count)
        try:
            assert not calls.receive(one, calls.batch)
        except ConnectionRefusedError:
            failed.append((count, "all of them"))
        assert failed
