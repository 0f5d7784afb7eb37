"""The machine's addresses: read once, and again when the kernel says that they have changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from discoverd import interfaces as module
from discoverd.interfaces import Interfaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ADDRESS = "127.77.66.55"
IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that the addresses were really read."""
    counted, read = [], module._read

    def counting() -> tuple[tuple[module.IPInterface, ...], bool]:
        counted.append(1)
        return read()

    monkeypatch.setattr(module, "_read", counting)
    return counted


@pytest.fixture
def known() -> Iterator[Interfaces]:
    made = Interfaces()
    yield made
    made.close()


@pytest.fixture
def on_loopback() -> Iterator[Callable[[str], None]]:
    """Adds or deletes an address of the loopback interface."""
    if IP is None or os.geteuid() != 0:
        pytest.skip("it takes root and ip(8) to give this machine an address")

    def change(what: str) -> None:
        subprocess.run([IP, "address", what, f"{ADDRESS}/32", "dev", "lo"], check=True)

    yield change
    subprocess.run([IP, "address", "del", f"{ADDRESS}/32", "dev", "lo"], check=False, capture_output=True)


def has(known: Interfaces) -> bool:
    return ADDRESS in {str(interface.ip) for interface in known()}


def test_what_does_not_change_is_read_once(known: Interfaces, reads: list[int]) -> None:
    first = known()
    assert "127.0.0.1" in {str(interface.ip) for interface in first}
    assert all(known() == first for _ in range(10))
    # something else on this machine may change its addresses meanwhile
    assert len(reads) < 5


def test_what_comes_and_goes_is_seen_at_once(known: Interfaces, on_loopback: Callable[[str], None]) -> None:
    assert not has(known)
    for _ in range(3):
        on_loopback("add")
        assert has(known)
        on_loopback("del")
        assert not has(known)


def test_without_being_told_it_is_read_each_time(
    known: Interfaces, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_subscribe", lambda: None)
    assert known() == known() != ()
    assert len(reads) == 2


def test_a_reading_that_fails_is_made_up_for(known: Interfaces, monkeypatch: pytest.MonkeyPatch) -> None:
    """For want of a file descriptor, say: the kernel tells of a change only once."""
    read = module._read
    monkeypatch.setattr(module, "_read", lambda: ((), False))
    assert known() == ()
    monkeypatch.setattr(module, "_read", read)
    whole = known()
    assert whole
    monkeypatch.setattr(module, "_read", lambda: (whole[:1], False))
    monkeypatch.setattr(known, "_have_changed", lambda _told: True)
    assert known() == whole
