"""Taking over where something is not as it should be: whoever serves goes on, and one line says why."""

from __future__ import annotations

import asyncio
import signal
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from discoverd import takeover
from discoverd.takeover import FILE, Taking
from tests.real.test_takeover import Host, at, by_tcp
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

BODY = {"service": "kept", "addresses": ["192.0.2.9"]}


@pytest.fixture
def host(tmp_path: Path) -> Generator[Host]:
    with ExitStack() as stack:
        yield Host(tmp_path, stack)


def test_with_nobody_there_it_starts_as_usual(host: Host) -> None:
    server = host.first("--take-over")
    assert f"nobody to take over from in {host.state}" in server.log_text
    until((host.state / FILE).exists)
    assert stat.S_IMODE((host.state / FILE).stat().st_mode) == 0o600
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    # what it leaves behind is nobody
    again = host.first("--take-over", **at(server))
    assert "nobody to take over from" in again.log_text
    by_tcp(again.dns_port)


def test_without_a_state_directory_there_is_no_meeting(host: Host) -> None:
    server = host.begin("--take-over", "--state-dir", "off")
    assert server.process.wait(60) == 1
    (line,) = server.log_text.splitlines()
    assert line.startswith("discoverd: --take-over: servers meet in the state directory, expected one")


def test_addresses_that_are_new_are_bound_and_old_ones_left(host: Host) -> None:
    old = host.first()
    kept = old.dns_port
    new = host.begin("--take-over", "--listen", "127.0.0.2:0", **at(old))
    new.wait_listening()
    until(lambda: old.process.poll() is not None)
    assert new.dns_port == kept
    assert f"listening on dns://127.0.0.1:{kept}" in new.log_text
    assert "listening on dns://127.0.0.2:" in new.log_text
    last = host.next(new)
    assert "127.0.0.2" not in last.log_text
    by_tcp(kept)


def test_who_dies_half_way_leaves_everything_as_it_was(host: Host) -> None:
    server = host.first()
    assert server.api("/v1/instances/one", "PUT", BODY).status == 201

    async def half_way() -> Taking:
        taking = await takeover.begin(host.state)
        assert taking is not None
        await taking.have_it_yield()
        return taking

    taking = asyncio.run(half_way())
    by_tcp(server.dns_port)
    assert server.dig("kept.docker").addresses == {"192.0.2.9"}, "DNS goes on meanwhile"
    for each in taking.sockets:
        each.sock.close()
    taking.close()
    until(lambda: "this one goes on" in server.log_text, message=lambda: server.log_text)
    assert server.api("/v1/instances/two", "PUT", {**BODY, "service": "more"}).status == 201
    assert server.api("/v1/services/kept").status == 200
    # and it can be taken over from, with all that is registered by then
    new = host.next(server)
    assert {each["name"] for each in new.api("/v1/services").json["services"]} >= {"kept", "more", "web"}


def test_a_configuration_that_cannot_be_served_changes_nothing(host: Host) -> None:
    server, other = host.first(), Host(host.folder / "other", host.stack).first()
    new = host.begin("--take-over", "--listen", f"127.0.0.1:{other.dns_port}", **at(server))
    assert new.process.wait(60) == 1
    assert f"cannot listen on 127.0.0.1:{other.dns_port} (UDP): Address already in use" in new.log_text
    until(lambda: "this one goes on" in server.log_text, message=lambda: server.log_text)
    by_tcp(server.dns_port)
    assert server.api("/v1/instances/one", "PUT", BODY).status == 201
