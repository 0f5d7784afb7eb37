"""A real systemd-resolved from Debian's package, with a bus, a /run and an /etc of its own.

The package is unpacked and not installed: installing it would take over this machine's resolv.conf.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.real.debian import SEARCH, codename, fetch, need
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterable

BOOT = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus /run/systemd
install -d -o {uid} -g {uid} /run/systemd/resolve
mount --bind {folder}/etc /etc
dbus-daemon --config-file={folder}/bus.conf --nofork --nopidfile &
until [ -S /run/dbus/system_bus_socket ]; do sleep 0.05; done
exec {binary}
"""
#: Who may do what is not what is tested.
BUS = """<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_type="signal"/>
  </policy>
</busconfig>
"""
STUB = "127.0.0.53"
USER, UID = "systemd-resolve", 993


class Resolved:
    """One that runs behind ``enter``, whose network it serves at 127.0.0.53; ``drop_in`` is the text of a
    file of resolved.conf.d(5). Raises UnavailableError.
    """

    def __init__(self, folder: Path, enter: Iterable[str], drop_in: str = "") -> None:
        for command, package in (
            ("unshare", "util-linux"),
            ("setpriv", "util-linux"),
            ("dbus-daemon", "dbus-daemon"),
            ("systemctl", "systemd"),  # whose libraries it needs
        ):
            need(command, package)
        self._root = fetch("systemd-resolved", codename())
        shared = next(fetch("libsystemd-shared", codename()).rglob("libsystemd-shared-*.so")).parent
        self._env = os.environ | {"LD_LIBRARY_PATH": str(shared)}
        self._folder, self._enter = folder, tuple(enter)
        self._install(drop_in)
        binary = next(self._root.rglob("systemd/systemd-resolved"))
        script = BOOT.format(folder=folder, binary=binary, uid=UID)
        own = ("--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")
        self._log = folder / "resolved.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*self._enter, "setpriv", "--pdeathsig", "KILL", "unshare", *own, "sh", "-c", script],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _install(self, drop_in: str) -> None:
        etc = self._folder / "etc"
        drop_ins = etc / "systemd" / "resolved.conf.d"
        drop_ins.mkdir(parents=True)
        (drop_ins / "test.conf").write_text(drop_in)
        (etc / "passwd").write_text(f"root:x:0:0:root:/root:/bin/sh\n{USER}:x:{UID}:{UID}::/:/bin/false\n")
        (etc / "group").write_text(f"root:x:0:\n{USER}:x:{UID}:\n")
        (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
        (etc / "resolv.conf").write_text(f"nameserver {STUB}\n")
        shutil.copy("/etc/ld.so.cache", etc)
        (self._folder / "bus.conf").write_text(BUS)

    def wait_started(self) -> None:
        """Until it answers on its bus."""

        def answers() -> bool:
            assert self._process.poll() is None, self.log
            return self._inside() > 0 and self.run("resolvectl", "status", check=False) != ""

        until(answers, timeout=60, message=lambda: self.log)

    def _inside(self) -> int:
        """The process that is number 1 inside; 0 before there is one."""
        found = self._process.pid
        children = Path(f"/proc/{found}/task/{found}/children").read_text().split()
        return int(children[0]) if children else 0

    @property
    def enter(self) -> tuple[str, ...]:
        """What to put before a command to run it with its /etc, its /run and its network."""
        return (need("nsenter", "util-linux"), f"--target={self._inside()}", "--mount", "--net")

    def run(self, *command: str, check: bool = True) -> str:
        """What a command says inside; ``resolvectl`` is the package's."""
        path = f"{next(self._root.rglob('bin/resolvectl')).parent}:{SEARCH}"
        done = subprocess.run(
            [*self.enter, "env", f"PATH={path}", *command],
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}\n{self.log}"
        return done.stdout

    @property
    def log(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        """The end of it; all else ends with its process 1."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
