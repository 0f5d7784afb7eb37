"""examples/dns-sd: a real browser of DNS-SD finds containers through discoverd."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.real.conftest import or_left_out
from tests.real.debian import REPO, UnavailableError, need
from tests.real.server import Server
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.real.compose import Compose

EXAMPLE = REPO / "examples" / "dns-sd"
#: The daemons' own sockets and name server, seen by nobody else.
BOOT = """
set -e
ip link set lo up
mount -t tmpfs tmpfs /run
mkdir /run/dbus /run/avahi-daemon
echo nameserver 127.0.0.1 >/run/resolv.conf
mount --bind /run/resolv.conf /etc/resolv.conf
dbus-daemon --system --nofork --nopidfile &
until [ -S /run/dbus/system_bus_socket ]; do sleep 0.1; done
exec avahi-daemon --file {conf} --no-drop-root --no-chroot --no-rlimits
"""


class Avahi:
    """avahi-daemon and its bus in a network of their own."""

    def __init__(self, folder: Path) -> None:
        for command, package in (
            ("unshare", "util-linux"),
            ("ip", "iproute2"),
            ("dbus-daemon", "dbus-daemon"),
            ("avahi-daemon", "avahi-daemon"),
            ("avahi-browse", "avahi-utils"),
        ):
            need(command, package)
        own = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")
        script = BOOT.format(conf=EXAMPLE / "avahi-daemon.conf")
        self._log = folder / "avahi.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", *own, "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_started(self) -> None:
        def started() -> bool:
            if self._process.poll() is not None:
                raise UnavailableError(f"no avahi-daemon can run here: {self.log[-300:]}")
            return "startup complete" in self.log

        until(started, timeout=60, message=lambda: self.log)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def enter(self) -> tuple[str, ...]:
        pid = self._process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return need("nsenter", "util-linux"), f"--target={child}", "--net"

    def browse(self, *what: str) -> list[list[str]]:
        """What avahi-browse finds below ``docker``, with what it resolves to, in fields."""
        command = ["avahi-browse", "--domain", "docker", "--terminate", "--resolve", "--parsable", *what]
        done = subprocess.run(
            [*self.enter, "--mount", *command], capture_output=True, text=True, timeout=60, check=False
        )
        return [line.split(";") for line in done.stdout.splitlines() if line.startswith("=")]

    def close(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def avahi(tmp_path: Path) -> Generator[Avahi]:
    with or_left_out():
        made = Avahi(tmp_path)
    try:
        with or_left_out():
            made.wait_started()
        yield made
    finally:
        made.close()


def test_a_browser_finds_a_container(
    avahi: Avahi, compose: Compose, unique: Callable[[str], str], tmp_path: Path
) -> None:
    engine, project = compose.engine, unique("browsed")
    compose.up(project, EXAMPLE / "compose.yml", env={"BUSYBOX_IMAGE": engine.image})
    (seen,) = engine.inspect(*compose.containers(project, "web"))
    address = seen["NetworkSettings"]["Networks"][f"{project}_default"]["IPAddress"]
    flags = ("--docker", engine.url)
    server = Server(tmp_path / "discoverd", *flags, listen="127.0.0.1:53", http="off", prefix=avahi.enter)
    try:
        server.wait_listening()
        found: list[list[str]] = []

        def resolved() -> bool:
            found[:] = [fields for fields in avahi.browse("_http._tcp") if fields[7] == address]
            return bool(found)

        until(resolved, timeout=60, message=lambda: f"{address} is found\n{server.log_text}\n{avahi.log}")
        (fields,) = found
        _, _, _, _name, kind, domain, _host, _, port, text = fields
        assert (kind, domain, port) == ("Web Site", "docker", "8080")
        assert '"path=/"' in text
        # and by type, for who does not know which there are
        assert address in {fields[7] for fields in avahi.browse("--all")}
    finally:
        server.close()
