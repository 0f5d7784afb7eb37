"""A real systemd as process 1 of namespaces of its own, with the units of a test and no others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.real.debian import REPO, UnavailableError, need
from tests.wait import until

UNITS = REPO / "examples" / "systemd"
#: What units name by default. Ours have nothing to order, and none of this machine's is started.
TARGETS = ("sysinit", "basic", "shutdown", "sockets", "multi-user", "network", "umount", "slices")
#: The end of a process that cannot be reached any more, even with the run of the tests itself killed.
TIED = ("setpriv", "--pdeathsig", "KILL")
#: Everything of its own but the users: processes, mounts, cgroups, network, names.
OWN = ("--pid", "--fork", "--kill-child", "--mount", "--cgroup", "--net", "--uts", "--ipc")

BOOT = """
set -e
mkdir {cgroup}
echo $$ >{cgroup}/cgroup.procs
exec {tied} unshare {own} --propagation private sh -ec '
ip link set lo up
mount -t proc proc /proc
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /opt
mkdir /opt/python /opt/packages /opt/source /opt/discoverd
mount --bind {python} /opt/python
mount --bind {packages} /opt/packages
mount --bind {repo} /opt/source
mount --bind {folder}/bin /opt/discoverd
mount --bind {folder}/etc /etc
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir /run/test
mount --bind {folder} /run/test
{docker}
exec env -i container=test PATH="$PATH" SYSTEMD_UNIT_PATH=/etc/systemd/system \\
  {systemd} --system --unit=basic.target --show-status=no --log-target=console
'
"""
#: A signal blocks the event loop, as a fault of the program could.
BLOCK = "import signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: time.sleep(3600))\n"
#: This interpreter may lie in a home, where neither the service's user nor its sandbox lets it look.
START = """#!/bin/sh
export LD_LIBRARY_PATH=/opt/python/lib PYTHONHOME=/opt/python
export PYTHONPATH=/opt/discoverd:/opt/source:/opt/packages PYTHONDONTWRITEBYTECODE=1
exec /opt/python/bin/python{version} -m discoverd "$@"
"""


class Systemd:
    """The shipped units, installed and not started. ``/run/test`` inside is ``folder`` here."""

    def __init__(
        self,
        folder: Path,
        docker: str = "",
        drop_ins: dict[str, str] | None = None,
        masked: tuple[str, ...] = (),
    ) -> None:
        """``docker`` is an engine's socket; ``drop_ins`` text to add to units; ``masked`` units are none."""
        self.folder = folder
        self._binary = _binary()
        for tool, package in (("unshare", "util-linux"), ("setpriv", "util-linux"), ("ip", "iproute2")):
            need(tool, package)
        self._own_cgroups = folder / "cgroups"
        self._cgroup = _cgroups(self._own_cgroups) / f"discoverd-test-{os.getpid()}-{folder.name}"
        self._install(docker, drop_ins or {}, masked)
        script = BOOT.format(
            cgroup=self._cgroup,
            tied=" ".join(TIED),
            own=" ".join(OWN),
            python=sys.base_prefix,
            packages=sysconfig.get_path("purelib"),
            repo=REPO,
            folder=folder,
            docker=f"touch /run/docker.sock; mount --bind {docker} /run/docker.sock" if docker else "",
            systemd=self._binary,
        )
        self._log = folder / "console"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_booted()
        except BaseException:
            self.close()
            raise

    def _install(self, docker: str, drop_ins: dict[str, str], masked: tuple[str, ...]) -> None:
        etc, binaries = self.folder / "etc", self.folder / "bin"
        units = etc / "systemd" / "system"
        units.mkdir(parents=True)
        for target in TARGETS:
            (units / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        for unit in UNITS.glob("discoverd*"):
            if unit.name in masked:
                (units / unit.name).symlink_to("/dev/null")
            else:
                shutil.copy(unit, units)
        log = "[Service]\nStandardOutput=append:/run/test/log\nStandardError=append:/run/test/log\n"
        for unit_name, text in {"discoverd.service": "", **drop_ins}.items():
            (units / f"{unit_name}.d").mkdir()
            (units / f"{unit_name}.d" / "test.conf").write_text(text)
        (units / "discoverd.service.d" / "log.conf").write_text(log)
        group = Path(docker).stat().st_gid if docker else 999
        (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (etc / "group").write_text(f"root:x:0:\ndocker:x:{group}:\n")
        (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
        for name in ("ld.so.cache", "ld.so.conf"):
            if Path("/etc", name).is_file():
                shutil.copy(Path("/etc", name), etc)
        (etc / "resolv.conf").touch()
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        (binaries / "bin").mkdir(parents=True)
        (binaries / "sitecustomize.py").write_text(BLOCK)
        (binaries / "bin" / "discoverd").write_text(START.format(version=version))
        (binaries / "bin" / "discoverd").chmod(0o755)

    def _wait_booted(self) -> None:
        def booted() -> bool:
            if self._process.poll() is not None:
                raise UnavailableError(f"no systemd can run here: {self._log.read_text().strip()[-500:]}")
            return (
                self._init() > 0
                and self.run("systemctl", "is-active", "basic.target", check=False) == "active"
            )

        until(booted, timeout=60, message=lambda: f"systemd starts:\n{self._log.read_text()}")

    def _init(self) -> int:
        """The process that is number 1 inside; 0 before there is one."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            return 0
        command = Path(f"/proc/{children[0]}/cmdline").read_text().split("\0")
        return int(children[0]) if command[0] == self._binary else 0

    @property
    def enter(self) -> list[str]:
        """What to put before a command to run it inside."""
        return [need("nsenter", "util-linux"), f"--target={self._init()}", "-m", "-p", "-n", "-C"]

    @property
    def enter_network(self) -> list[str]:
        """The same for its network only."""
        return [need("nsenter", "util-linux"), f"--target={self._init()}", "-n"]

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(
            [*self.enter, *command], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}\n{self.log}"
        return done.stdout.strip()

    def show(self, unit: str, what: str) -> str:
        return self.run("systemctl", "show", "--value", "--property", what, unit)

    @property
    def main(self) -> Path:
        """The service's process as /proc shows it from inside."""
        return Path("/proc") / self.show("discoverd", "MainPID")

    def status(self) -> dict[str, str]:
        """proc_pid_status(5) of the service's process."""
        lines = self.run("cat", str(self.main / "status")).splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    @property
    def log(self) -> str:
        log = self.folder / "log"
        return self._log.read_text() + (log.read_text() if log.exists() else "")

    def close(self) -> None:
        """The end of all its processes and cgroups; mounts and network go with their namespaces."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()

        def gone() -> bool:
            for folder in sorted(self._cgroup.rglob("*"), reverse=True):
                if folder.is_dir():
                    folder.rmdir()
            self._cgroup.rmdir()
            return True

        def gone_now() -> bool:
            try:
                return gone()
            except FileNotFoundError:
                return True
            except OSError:
                return False  # busy until the last process is gone

        until(gone_now, message=f"the processes of {self._cgroup} end")
        if self._own_cgroups.is_dir():
            subprocess.run(["umount", str(self._own_cgroups)], check=True)


def _binary() -> str:
    need("systemctl", "systemd")
    for path in ("/usr/lib/systemd/systemd", "/lib/systemd/systemd"):
        if Path(path).is_file():
            return path
    raise UnavailableError("systemd is missing: install systemd")


def _cgroups(spare: Path) -> Path:
    """Where version 2 of cgroups is mounted; on ``spare`` from now on where it is not."""
    if os.geteuid() != 0:
        raise UnavailableError("a systemd of the tests' own needs root")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    spare.mkdir()
    mount = ["mount", "-t", "cgroup2", "none", str(spare)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise UnavailableError("no systemd can run here: version 2 of cgroups cannot be mounted")
    return spare
