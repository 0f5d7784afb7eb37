from __future__ import annotations

import pytest

from discoverd import host
from discoverd.host import GOOD_FOR, HostAddresses
from discoverd.interfaces import interfaces
from tests.build import ip


def test_they_are_those_of_all_interfaces() -> None:
    assert HostAddresses()() == {interface.ip for interface in interfaces()}


def test_a_reading_is_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now, readings = 100.0, [0]

    def read() -> tuple[object, ...]:
        readings[0] += 1
        return ()

    monkeypatch.setattr(host, "interfaces", read)
    monkeypatch.setattr("discoverd.host.time.monotonic", lambda: now)
    addresses = HostAddresses()
    assert addresses() == frozenset()
    assert addresses() == frozenset()
    assert readings == [1]
    now += GOOD_FOR + 0.1
    addresses()
    assert readings == [2]
    addresses.forget()
    addresses()
    assert readings == [3]


def test_loopback_is_among_them() -> None:
    found = HostAddresses()()
    if not found:
        pytest.skip("this machine does not tell its addresses")
    assert ip("127.0.0.1") in found
