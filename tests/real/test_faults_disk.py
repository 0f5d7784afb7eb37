"""A disk that is full, and one that turns read-only: answers go on, nothing that was acknowledged is lost."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.real.conftest import or_left_out
from tests.real.disk import Disk, disk
from tests.real.server import Server
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

KEPT = {f"10.0.0.{number}" for number in range(1, 6)}
TROUBLE = "registrations cannot be written: "


@pytest.fixture
def own_disk(tmp_path: Path) -> Generator[Disk]:
    with or_left_out():
        made = disk(tmp_path)
        found = made.__enter__()
    try:
        yield found
    finally:
        made.__exit__(None, None, None)


def put(server: Server, ident: str, service: str, address: str, lease: int = 3600) -> int:
    body = {"service": service, "addresses": [address], "lease": lease}
    return server.api(f"/v1/instances/{ident}", "PUT", body).status


def killed(server: Server) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


def test_a_full_disk(own_disk: Disk, discoverd: Callable[..., Server]) -> None:
    flags = ("--state-dir", str(own_disk.path / "state"))
    server = discoverd(*flags)
    for number, address in enumerate(sorted(KEPT)):
        assert put(server, f"kept-{number}", "kept", address) == 201
    assert put(server, "ends", "ends", "10.0.1.1", lease=2) == 201

    own_disk.fill()
    for method, ident in (("PUT", "new"), ("PUT", "kept-0"), ("DELETE", "kept-1")):
        body = {"service": "kept", "addresses": ["10.0.0.99"]} if method == "PUT" else None
        said = server.api(f"/v1/instances/{ident}", method, body)
        assert said.status == 503, said.text
        assert "the state directory did not take it: " in said.json["error"]
    assert server.dig("kept.docker").addresses == KEPT, "what was refused has changed nothing"
    assert server.api("/v1/instances/kept-2/renew", "POST").status == 200
    server.wait_answer("ends.docker", set())
    assert server.log_text.count(TROUBLE) == 1, "said once, however often it is tried"

    # with a full disk it starts as with any
    killed(server)
    server = discoverd(*flags)
    assert server.dig("kept.docker").addresses == KEPT
    server.wait_answer("ends.docker", set())  # its end was not on disk: it was there for one lease more
    until(lambda: server.log_text.count(TROUBLE) == 1, message=lambda: server.log_text)

    own_disk.free()
    assert put(server, "new", "kept", "10.0.0.6") == 201
    assert put(server, "another", "another", "10.0.1.2") == 201
    assert server.log_text.count("registrations can be written again") == 1
    killed(server)
    server = discoverd(*flags)
    assert server.dig("kept.docker").addresses == KEPT | {"10.0.0.6"}
    assert server.dig("another.docker").addresses == {"10.0.1.2"}
    assert server.dig("ends.docker").nxdomain, "a lease that has ended on a full disk is off it by now"


def test_a_disk_that_turns_read_only(
    own_disk: Disk, discoverd: Callable[..., Server], tmp_path: Path
) -> None:
    flags = ("--state-dir", str(own_disk.path / "state"))
    server = discoverd(*flags)
    for number, address in enumerate(sorted(KEPT)):
        assert put(server, f"kept-{number}", "kept", address) == 201
    own_disk.fail()
    assert put(server, "new", "kept", "10.0.0.6") == 503
    assert server.dig("kept.docker").addresses == KEPT
    assert server.api("/v1/instances/kept-2/renew", "POST").status == 200
    assert server.api("/healthz").status == 200
    killed(server)

    # what was asked for cannot be had, and that is one line: registrations would be lost unheard
    refused = Server(tmp_path / "refused", *flags)
    assert refused.process.wait(60) == 1
    (line,) = refused.log_text.splitlines()
    assert f"cannot keep registrations in {own_disk.path}/state/registrations.db: " in line
    assert "choose another --state-dir, or off" in line

    # without a word on where to keep anything it serves, and keeps registrations in memory
    unsaid = discoverd(env={"DISCOVERD_STATE_DIR": "", "STATE_DIRECTORY": str(own_disk.path / "state")})
    assert "until then they are kept in memory only" in unsaid.log_text
    assert put(unsaid, "new", "kept", "10.0.0.6") == 201
    assert unsaid.dig("kept.docker").addresses == {"10.0.0.6"}
    assert unsaid.terminate() == 0

    own_disk.unmount()
    own_disk.mount()
    again = discoverd(*flags)
    assert again.dig("kept.docker").addresses == KEPT
    assert put(again, "new", "kept", "10.0.0.6") == 201
