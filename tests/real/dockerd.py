"""A Docker daemon of the tests' own: one process that can be stopped, killed, frozen and started again."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.real.debian import UnavailableError, need, which
from tests.real.netns import Namespace
from tests.real.session import alive, bridge, clear
from tests.wait import until

if TYPE_CHECKING:
    from tests.real.session import Session

#: Seconds; a busy machine takes tens of them where an idle one takes two.
START_TIMEOUT = 150.0
STOP_TIMEOUT = 90.0


def prepare() -> None:
    """Have what a daemon needs on this machine. UnavailableError says why it cannot run."""
    need("dockerd", "docker.io")
    need("iptables", "iptables")
    need("ip", "iproute2")
    if not re.search(r" cgroup2? ", Path("/proc/mounts").read_text()):
        # Without systemd nobody has mounted it in some containers.
        mount = ["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            raise UnavailableError("no Docker Engine can run here: no cgroups, and no right to mount them")
    nat = [which("iptables") or "iptables", "-w", "-t", "nat", "-S"]
    tables = subprocess.run(nat, capture_output=True, text=True, check=False)
    if tables.returncode:
        raise UnavailableError(f"no Docker Engine can run here: iptables: {tables.stderr.strip()[-200:]}")


class Dockerd:
    """A daemon with its own data, containerd, socket and bridge; ``namespace``: its own network stack."""

    def __init__(self, home: Path, *options: str, namespace: Namespace | None = None) -> None:
        self.home = home
        self.url = f"unix://{home}/docker.sock"
        self.namespace = namespace
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int:
        assert self._process, "the daemon was never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until its API answers. UnavailableError with its last words where it ends."""
        assert not self.running, "the daemon runs already"
        for left in (self.home / "docker.pid", self.home / "exec/containerd/containerd.pid"):
            # A killed daemon leaves them; where pid 1 reaps nothing, their pid still exists as a zombie.
            if left.is_file() and not alive(int(left.read_text() or 0)):
                left.unlink()
        command = [
            *(self.namespace.enter if self.namespace else ()),
            which("dockerd") or "dockerd",
            *("--data-root", str(self.home / "data"), "--exec-root", str(self.home / "exec")),
            *("--pidfile", str(self.home / "docker.pid"), "--host", self.url),
            *self._options,
        ]
        with self.log.open("a") as log:
            process = self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        up = until(
            lambda: answers(self.url) or process.poll() is not None,
            timeout=START_TIMEOUT,
            interval=0.1,
            message=lambda: f"dockerd answers; its log ends: {self._last_words()}",
        )
        if not up or process.poll() is not None:
            raise UnavailableError(f"no Docker Engine can run here: dockerd ended: {self._last_words()}")

    def stop(self) -> None:
        """SIGTERM: it ends its containers first, and its containerd."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: its containers run on until the next start."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Stop it, and leave nothing of it: what a killed one left running, and its data."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        self.kill()
        clear(self.home)
        if self.namespace:
            self.namespace.close()

    def freeze(self) -> None:
        """It still accepts connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    @property
    def log(self) -> Path:
        return self.home / "dockerd.log"

    def _signal(self, number: signal.Signals) -> None:
        assert self.running, "the daemon does not run"
        assert self._process
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process:
            # Popen sends nothing to a process that has ended.
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)  # a frozen one takes a SIGTERM only after that
            self._process.wait(STOP_TIMEOUT)

    def _last_words(self) -> str:
        return " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-5:])


def answers(url: str) -> bool:
    """Whether an engine answers at this URL."""
    docker = which("docker")
    if not docker:
        return False
    try:
        asked = subprocess.run([docker, "-H", url, "version"], capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def main_daemon(session: Session) -> Dockerd:
    """The run's daemon in the machine's own network stack, on the run's own bridge and addresses."""
    prepare()
    slot = session.slot
    ip = which("ip") or "ip"
    subprocess.run([ip, "address", "replace", f"10.{slot}.0.1/24", "dev", bridge(slot)], check=True)
    subprocess.run([ip, "link", "set", bridge(slot), "up"], check=True)
    pool = f"base=10.{slot}.128.0/17,size=24"
    return Dockerd(session.root / "engine", "--bridge", bridge(slot), "--default-address-pool", pool)


def host_daemon(session: Session, name: str, number: int, *options: str) -> Dockerd:
    """A further "Docker host": a network namespace that is reachable from here as 10.<slot>.<number>.2.

    ``number`` is 1 to 9 and tells the hosts of one run apart. Besides its socket it listens on
    tcp port 2375 of that address, which nothing but this machine reaches.
    """
    prepare()
    assert 1 <= number <= 9, "a run has room for hosts 1 to 9"
    slot = session.slot
    namespace = Namespace(f"{bridge(slot)}v{number}", f"10.{slot}.{number}")
    return Dockerd(
        session.root / f"host-{name}",
        *("--bip", f"10.{slot}.{10 + number}.1/24"),
        *("--default-address-pool", f"base=10.{slot}.{32 + 8 * number}.0/21,size=24"),
        *("--host", f"tcp://{namespace.address}:2375", "--tls=false"),
        *options,
        namespace=namespace,
    )
