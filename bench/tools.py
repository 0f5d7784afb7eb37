"""What every measurement needs: the compiled load generator, pinned processes, their CPU time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
ROOT = HERE.parent
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
#: Seconds for which a load generator may overrun before it counts as hung.
PATIENCE = 60


class BenchError(Exception):
    """The benchmark cannot run on; the text is one line that says why."""


def install(*packages: str) -> bool:
    """Install Debian packages where the caller may (root, apt-get); whether they are there then."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "capture_output": True}
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if subprocess.run(command, check=False, **quiet).returncode == 0:  # type: ignore[call-overload]
        return True
    subprocess.run(["apt-get", "update"], check=False, **quiet)  # type: ignore[call-overload]
    done = subprocess.run(command, check=False, **quiet)  # type: ignore[call-overload]
    return bool(done.returncode == 0)


@cache
def compiled(name: str) -> Path:
    """The program made from ``bench/<name>.c``, compiled anew when the source is newer. Raises BenchError."""
    source, program = HERE / f"{name}.c", BUILD / name
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    compiler = _compiler() or (install("gcc", "libc6-dev") and _compiler())
    if not compiler:
        raise BenchError("no C compiler: install gcc and libc6-dev, the load generator is written in C")
    BUILD.mkdir(exist_ok=True)
    made = subprocess.run(
        [compiler, "-O2", "-Wall", "-o", program, source], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        raise BenchError(f"{source.name} does not compile: {made.stderr.strip()}")
    return program


def _compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@dataclass(frozen=True)
class Cores:
    """Where the server runs and where the load comes from; -1 is anywhere (a machine with one core)."""

    server: int
    load: int

    @classmethod
    def choose(cls) -> Cores:
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[1]) if len(usable) > 1 else cls(-1, -1)


def pinned(command: Sequence[str | Path], core: int, nice: int, **keywords: Any) -> subprocess.Popen[str]:
    """Start a program in a session of its own, on one core at one priority."""

    def prepare() -> None:
        if core >= 0:
            os.sched_setaffinity(0, {core})
        if nice:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
            prioritise_session("self", nice)

    return subprocess.Popen(
        [str(word) for word in command],
        text=True,
        preexec_fn=prepare,  # noqa: PLW1509 - the bench has no threads
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        **keywords,
    )


def prioritise_session(pid: int | str, nice: int) -> None:
    """Where the kernel groups by session, a process's own priority counts within its session only."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


def generate(arguments: Sequence[str | Path], core: int, nice: int) -> dict[str, Any]:
    """Run the load generator once; its report. Raises BenchError."""
    process = pinned(
        [compiled("loadgen"), *arguments], core, nice, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise BenchError("the load generator hung") from None
    if process.returncode != 0:
        raise BenchError(f"the load generator failed: {err.strip()}")
    report: dict[str, Any] = json.loads(out)
    return report


def family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    try:
        children = [word for task in Path(f"/proc/{pid}/task").iterdir() for word in _children(task)]
    except FileNotFoundError:
        return  # it has just ended; its parent counts its time
    for child in children:
        yield from family(int(child))


def _children(task: Path) -> list[str]:
    try:
        return (task / "children").read_text().split()
    except OSError:
        return []  # a thread that has just ended


def cpu_seconds(pid: int) -> tuple[float, float]:
    """User and system time so far of a process, its children, and the children it has waited for."""
    user = system = 0
    for member in family(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
    return user * TICK_SECONDS, system * TICK_SECONDS


def resident_bytes(pid: int) -> int:
    """Memory held by a process and its children (proportional set size: what is shared counts once)."""
    total = 0
    for member in family(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total
