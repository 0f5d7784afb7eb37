from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from discoverd import privileges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BIND, SETGID = 1 << 10, 1 << 6


@pytest.fixture
def unix_socket(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        yield path


def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may open anything; the rest of us would be refused."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)


def test_the_group_of_a_closed_socket_is_wanted(unix_socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unix_socket.chmod(0o660)
    assert privileges.groups_wanted([str(unix_socket)]) == set()
    closed(monkeypatch)
    assert privileges.groups_wanted([str(unix_socket), "/nowhere/engine.sock"]) == {unix_socket.stat().st_gid}


def test_no_group_is_wanted_that_would_not_help(
    unix_socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed(monkeypatch)
    unix_socket.chmod(0o600)
    plain = tmp_path / "plain"
    plain.touch(0o660)
    assert privileges.groups_wanted([str(unix_socket), str(plain), "tcp://10.0.0.1:2375"]) == set()


def in_a_thread(work: Callable[[], None]) -> None:
    """Capabilities belong to a thread: what one gives up, the others keep."""
    faults: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            faults.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if faults:
        raise faults[0]


def sets() -> dict[str, int]:
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    return {line[:6]: int(line.split()[1], 16) & 0xFFFFFFFF for line in lines if line.startswith("Cap")}


def test_capabilities_are_read_and_given_up() -> None:
    before = sets()

    def work() -> None:
        assert privileges._permitted() == before["CapPrm"]
        kept = before["CapPrm"] & BIND
        assert privileges._set(kept)
        assert (sets()["CapPrm"], sets()["CapEff"]) == (kept, kept)
        assert not privileges._set(kept | SETGID), "what was given up is gone"

    in_a_thread(work)
    assert sets() == before


def test_nothing_changes_where_nothing_is_allowed(unix_socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        privileges._set(0)
        closed(monkeypatch)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        groups = os.getgroups()
        privileges.use_what_is_allowed([str(unix_socket)])
        assert os.getgroups() == groups

    in_a_thread(work)
