"""One run of the tests on this machine: its folder, its range of addresses, and the end of both.

Whatever a run starts or makes carries its id. A run that was killed leaves its folder behind;
the next one finds that nobody holds its lock any more and clears up after it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tests.real.debian import UnavailableError, locked, need, which
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Generator

#: 10.<slot>.0.0/16 is a run's own; ``ip link add`` of the bridge named after it is what reserves it.
SLOTS = range(201, 250)
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
DAEMONS = ("dockerd", "containerd", "containerd-shim", "consul", "podman", "conmon")
PREFIX = f"discoverd-test-{os.geteuid()}-"


@contextlib.contextmanager
def forwarding() -> Generator[None]:
    """Have this machine pass on packets between its networks, whether an engine has seen to it or not."""
    before = FORWARDING.read_text()
    FORWARDING.write_text("1")
    try:
        yield
    finally:
        FORWARDING.write_text(before)


class Session:
    """A run's identity. ``root`` is its folder, ``label`` what everything inside engines carries."""

    def __init__(self) -> None:
        base = Path(tempfile.gettempdir())
        with locked(base / f"{PREFIX}start.lock"):
            for left in base.glob(f"{PREFIX}????????/lock"):
                if handle := _take(left):
                    with handle:
                        clear(left.parent)
            self.id = secrets.token_hex(4)
            self.root = base / f"{PREFIX}{self.id}"
            self.root.mkdir(mode=0o700)
            (self.root / "lock").touch()
            lock = _take(self.root / "lock")
        assert lock
        self._lock: TextIO = lock
        self._slot = 0

    @property
    def label(self) -> str:
        return f"discoverd.test={self.id}"

    @property
    def slot(self) -> int:
        """The run's number among those on this machine now; 10.<slot>.0.0/16 and a bridge are its own.

        Raises UnavailableError without the right to make network interfaces.
        """
        if not self._slot:
            if os.geteuid() != 0:
                raise UnavailableError("an engine of the tests' own needs root")
            need("ip", "iproute2")
            with locked(self.root.parent / f"{PREFIX}start.lock"):
                self._slot = self._reserve()
            if FORWARDING.read_text().strip() == "0":  # a daemon is about to change that
                (self.root / "forwarding").touch()
        return self._slot

    def _reserve(self) -> int:
        taken = _routed()
        # Runs in other network namespaces have routes of their own, but the names of namespaces are shared.
        theirs = {int(file.read_text()) for file in self.root.parent.glob(f"{PREFIX}????????/slot")}
        for slot in SLOTS:
            ours = IPv4Network(f"10.{slot}.0.0/16")
            if slot in theirs or any(ours.overlaps(network) for network in taken):
                continue
            if _ip("link", "add", bridge(slot), "type", "bridge"):
                (self.root / "slot").write_text(str(slot))
                return slot
        raise UnavailableError("no network bridge can be made here, or 10.201-249.0.0/16 is all in use")

    def close(self) -> None:
        clear(self.root)
        self._lock.close()


def bridge(slot: int) -> str:
    return f"dd{slot}"


def _take(path: Path) -> TextIO | None:
    """The lock, or None while the run that made it lives."""
    handle = path.open("a")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    return handle


def _ip(*arguments: str) -> bool:
    return subprocess.run([which("ip") or "ip", *arguments], capture_output=True, check=False).returncode == 0


def _routed() -> list[IPv4Network]:
    command = [which("ip") or "ip", "-4", "route", "show", "table", "all"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # "10.0.0.0/8 via ...", "local 10.0.0.1 dev ...", but not "default via ..."
    targets = re.findall(r"^(?:[a-z]+ )?(\d[\d./]*)", shown, re.MULTILINE)
    return [IPv4Network(target, strict=False) for target in targets]


def clear(root: Path) -> None:
    """End what runs from this folder, take back its mounts, namespaces, links and rules, and remove it."""
    for daemon in ("dockerd", ""):  # first what would start the others again
        victims = _processes(root, daemon)
        for pid in victims:
            send(pid, signal.SIGKILL)
            thaw(pid)
        until(
            lambda victims=victims: not any(alive(pid) for pid in victims),  # type: ignore[misc]
            message=f"the processes of {root} end: {sorted(victims)}",
        )
    kept = "data/network/files/local-kv.db"
    for networks in (*root.glob(kept), *root.glob(f"*/{kept}")):
        # A daemon leaves the bridges of its networks to its successor. In a namespace they end with that.
        _remove_links({name.decode() for name in re.findall(rb"br-[0-9a-f]{12}", networks.read_bytes())})
    for mount in reversed([line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]):
        if mount.startswith(f"{root}/"):
            subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
    if (root / "slot").is_file():
        _release(root, int((root / "slot").read_text()))
    shutil.rmtree(root, ignore_errors=True)


def _release(root: Path, slot: int) -> None:
    for link in Path("/sys/class/net").glob(f"{bridge(slot)}v*"):
        _ip("link", "del", link.name)
    for namespace in Path("/run/netns").glob(f"{bridge(slot)}v*"):
        _ip("netns", "del", namespace.name)
    _remove_links({bridge(slot)})  # last: while it is there, the slot is taken
    if (root / "forwarding").is_file() and not any(Path("/sys/class/net").glob("dd2*")):
        FORWARDING.write_text("0")
        subprocess.run(["iptables", "-w", "-P", "FORWARD", "ACCEPT"], check=False)


def _remove_links(names: set[str]) -> None:
    """Remove network interfaces, and the firewall rules that name them."""
    for table in ("filter", "nat") if which("iptables") else ():
        iptables = [which("iptables") or "iptables", "-w", "-t", table]
        rules = subprocess.run([*iptables, "-S"], capture_output=True, text=True, check=False).stdout
        for rule in rules.splitlines():
            verb, *words = rule.split()
            if verb == "-A" and not names.isdisjoint(words):
                subprocess.run([*iptables, "-D", *words], capture_output=True, check=False)
    for name in names:
        _ip("link", "del", name)


def _processes(root: Path, daemon: str) -> set[int]:
    """The daemons started from this folder, with all below them, or only those called ``daemon``."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            stat = (entry / "stat").read_text()
        except OSError:  # it ended while we looked
            continue
        pid = int(entry.name)
        parents[pid] = int(stat.rpartition(")")[2].split()[1])
        name = Path(command[0]).name
        ours = any(f"{root}/" in word for word in command[1:])
        if ours and (name == daemon if daemon else name.startswith(DAEMONS)):
            found.add(pid)
    if not daemon:
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
    return found


def send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def thaw(pid: int) -> None:
    """A paused container dies of a signal only when its cgroup is no longer frozen (version 1 of cgroups)."""
    with contextlib.suppress(OSError):  # it has ended, or there is no such cgroup
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "freezer" and path != "/":
                Path(f"/sys/fs/cgroup/freezer{path}/freezer.state").write_text("THAWED")


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended but was never waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
