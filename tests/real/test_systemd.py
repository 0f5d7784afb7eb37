"""The shipped systemd units, run by a real systemd."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.real.conftest import or_left_out
from tests.real.debian import need
from tests.real.dig import OUTPUT, Reply, parse
from tests.real.steady import Steady
from tests.real.systemd import UNITS, Systemd
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.real.conftest import Containers
    from tests.real.engine import Engine

STATIC = '[[service]]\nname = "web"\naddresses = ["192.0.2.1"]\n'
#: Of 10, where less is better; systemd itself calls up to 2 "OK" at best. What is left is the network.
EXPOSURE_MOST = 1.5
#: Questions a second, as many as a busy machine carries.
RATE = 1000
SOCKETS = ("discoverd.socket", "discoverd-http.socket")
NET_BIND_SERVICE = 1 << 10


@pytest.fixture
def systemd(tmp_path: Path) -> Generator[Callable[..., Systemd]]:
    made: list[Systemd] = []

    def start(**options: Any) -> Systemd:
        folder = tmp_path / "systemd"
        folder.mkdir()
        with or_left_out():
            need("dig", "bind9-dnsutils")
            made.append(Systemd(folder, **options))
        return made[-1]

    yield start
    for each in made:
        each.close()


def configure(systemd: Systemd, text: str) -> None:
    folder = systemd.folder / "etc" / "discoverd"
    folder.mkdir()
    (folder / "discoverd.toml").write_text(text)


def ask(systemd: Systemd, name: str, *options: str, server: str = "127.0.0.1") -> Reply:
    command = [*systemd.enter_network, need("dig", "bind9-dnsutils"), *OUTPUT, "+tries=1", "+time=5"]
    done = subprocess.run(
        [*command, f"@{server}", *options, name], capture_output=True, text=True, timeout=60, check=False
    )
    return parse(done.stdout + done.stderr)


def test_the_units_are_right_and_give_little_away() -> None:
    with or_left_out():
        analyze = need("systemd-analyze", "systemd")
    done = subprocess.run(
        [
            analyze,
            "security",
            "--offline=true",
            f"--threshold={EXPOSURE_MOST * 10:g}",
            UNITS / "discoverd.service",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_port_53_without_any_capability(
    systemd: Callable[..., Systemd], engine: Engine, containers: Containers, unique: Callable[[str], str]
) -> None:
    host = systemd(docker=engine.url.removeprefix("unix://"))
    name = unique("sandboxed")
    containers.run(name)
    (seen,) = engine.inspect(name)
    host.run("systemctl", "start", "discoverd")  # it is ready when that comes back
    own = {seen["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]}
    until(
        lambda: ask(host, f"{name}.docker").addresses == own,
        message=lambda: f"{name} is {own}:\n{ask(host, f'{name}.docker').text}\n{host.log}",
    )
    assert ask(host, f"{name}.docker", "+tcp", server="::1").addresses == own

    status = host.status()
    assert {status[key] for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert "0" not in status["Uid"].split()
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    mounts = [line.split() for line in host.run("cat", str(host.main / "mountinfo")).splitlines()]
    writable = {fields[4] for fields in mounts if "rw" in fields[5].split(",")}
    assert not {"/", "/usr", "/etc", "/opt/source"} & writable
    assert "answering on 0.0.0.0:53" in host.show("discoverd", "StatusText")
    host.run("systemctl", "reload", "discoverd")
    until(lambda: "reloaded" in host.log, message=lambda: host.log)
    assert host.show("discoverd", "ActiveState") == "active"


def test_one_capability_without_socket_units(systemd: Callable[..., Systemd]) -> None:
    capability = "CapabilityBoundingSet=\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n"
    own = f"[Service]\nPrivateUsers=no\n{capability}AmbientCapabilities=CAP_NET_BIND_SERVICE\n"
    host = systemd(drop_ins={"discoverd.service": own}, masked=SOCKETS)
    configure(host, f'listen = [":53"]\n{STATIC}')
    host.run("systemctl", "start", "discoverd")
    assert ask(host, "web.docker").addresses == {"192.0.2.1"}
    status = host.status()
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == NET_BIND_SERVICE
    assert "0" not in status["Uid"].split()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_restart_loses_no_question(
    systemd: Callable[..., Systemd],
    engine: Engine,
    containers: Containers,
    unique: Callable[[str], str],
    workers: int,
) -> None:
    host = systemd(docker=engine.url.removeprefix("unix://"))
    configure(host, f"workers = {workers}")
    name = unique("kept")
    containers.run(name)
    host.run("systemctl", "start", "discoverd")
    until(lambda: ask(host, f"{name}.docker").addresses, message=lambda: f"{name} is known: {host.log}")
    steady = Steady(host.enter_network, "127.0.0.1", 53, f"{name}.docker", RATE)
    try:
        processes = {host.show("discoverd", "MainPID")}
        for _ in range(2):
            host.run("systemctl", "restart", "discoverd")
            processes.add(host.show("discoverd", "MainPID"))
            assert len(ask(host, f"{name}.docker", "+tcp").addresses) == 1
        count = steady.end()
    finally:
        steady.close()
    assert len(processes) == 3
    assert count.sent > RATE
    # nor is one answered wrongly while the engine has not been asked yet: the state directory has it
    assert (count.lost, count.wrong) == (0, 0), f"{count}\n{host.log}"


def test_a_blocked_event_loop_is_started_anew(systemd: Callable[..., Systemd]) -> None:
    host = systemd(drop_ins={"discoverd.service": "[Service]\nWatchdogSec=5s\n"})
    configure(host, STATIC)
    host.run("systemctl", "start", "discoverd")
    for _ in range(3):  # it says that it is well, again and again
        heard = host.show("discoverd", "WatchdogTimestampMonotonic")
        until(lambda heard=heard: host.show("discoverd", "WatchdogTimestampMonotonic") != heard)  # type: ignore[misc]
    assert host.show("discoverd", "NRestarts") == "0"
    blocked = host.main
    host.run("kill", "-USR1", blocked.name)  # the tests' interpreter sleeps on that, in the main thread
    until(
        lambda: [host.show("discoverd", what) for what in ("NRestarts", "SubState")] == ["1", "running"],
        timeout=60,
        message=lambda: f"{host.run('systemctl', 'status', 'discoverd', check=False)}\n{host.log}",
    )
    assert host.main != blocked
    assert ask(host, "web.docker").addresses == {"192.0.2.1"}
