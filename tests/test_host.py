from __future__ import annotations

from ipaddress import ip_interface
from typing import TYPE_CHECKING

import pytest

from discoverd import host
from discoverd.host import GOOD_FOR, HostAddresses
from discoverd.interfaces import interfaces
from tests.build import ip
from tests.dns.serving import instance, query, serving

if TYPE_CHECKING:
    from pathlib import Path


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


async def test_answers_that_rest_on_them_go_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only with them: the interfaces of containers come and go with a link-local address each."""
    found = [*interfaces()]
    monkeypatch.setattr(host, "interfaces", lambda: tuple(found))
    async with serving(tmp_path) as server:
        server.publish(instance("web", "192.0.2.1"))
        answering = server.app.answering

        def look() -> bool:
            """Whether what was kept is still kept after a new reading."""
            answering.host_addresses.forget()
            answering.look_at_host()
            return bool(answering.fastpath.askers)

        look()
        await server.ask(query("web.docker"))
        assert look()
        found.append(ip_interface("fe80::1/64"))
        assert look()
        found.append(ip_interface("10.89.0.1/24"))
        assert not look()
        await server.ask(query("web.docker"))
        assert look()
        found.pop()
        assert not look()


def test_loopback_is_among_them() -> None:
    found = HostAddresses()()
    if not found:
        pytest.skip("this machine does not tell its addresses")
    assert ip("127.0.0.1") in found
