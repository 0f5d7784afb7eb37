"""Programs that resolve names inside containers, each by another library: built here, mounted there."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tests.real.asking import GO, JAVA, NODE, NSLOOKUP, C
from tests.real.debian import REPO, need, which
from tests.real.images import Rootfs, busybox_into, shared_libraries

if TYPE_CHECKING:
    from tests.real.engine import Engine
    from tests.real.session import Session

#: How each is called inside; its programs and this machine's are below these folders.
PROGRAMS, NODE_BINARY = "/opt/programs", "/opt/node"
COMMANDS: dict[str, tuple[str, ...]] = {
    "glibc": (f"{PROGRAMS}/glibc",),
    "musl": (f"{PROGRAMS}/musl",),
    "busybox": (f"{PROGRAMS}/nslookup",),
    "go": (f"{PROGRAMS}/go",),
    "node": (NODE_BINARY, f"{PROGRAMS}/ask.js", "lookup"),
    "c-ares": (NODE_BINARY, f"{PROGRAMS}/ask.js", "cares"),
    "java": (
        f"{PROGRAMS}/jre/bin/java", "-XX:TieredStopAtLevel=1", "-cp", PROGRAMS,
        # it would keep addresses for 30 s, and for 10 s that there are none
        "-Dsun.net.inetaddr.ttl=0", "-Dsun.net.inetaddr.negative.ttl=0", "Ask",
    ),
}  # fmt: skip
#: discoverd inside a container: this interpreter and this tree.
PYTHON = f"/opt/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
PYTHON_ENV = {
    "LD_LIBRARY_PATH": "/opt/python/lib",
    "PYTHONHOME": "/opt/python",
    "PYTHONPATH": "/opt/source:/opt/packages",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}


class Clients:
    """An image with the C library and busybox, and what is mounted into its containers.

    Raises UnavailableError where a program that is not optional cannot be had.
    """

    def __init__(self, session: Session) -> None:
        self._folder = session.root / "clients"
        self._tag = f"discoverd-test-clients:{session.id}"
        self._jdk, self._node = _jdk(), Path(need("node", "nodejs")).resolve()
        if not self._folder.is_dir():
            self._build()

    def _build(self) -> None:
        need("gcc", "gcc")
        need("musl-gcc", "musl-tools")
        fresh = self._folder.with_suffix(".new")
        fresh.mkdir()
        (fresh / "ask.c").write_text(C)
        _run(fresh, "gcc", "-O1", "-o", "glibc", "ask.c")
        _run(fresh, "musl-gcc", "-O1", "-static", "-o", "musl", "ask.c")
        (fresh / "nslookup").write_text(NSLOOKUP)
        (fresh / "nslookup").chmod(0o755)
        (fresh / "ask.js").write_text(NODE)
        (fresh / "ask.go").write_text(GO)
        _run(
            fresh, need("go", "golang-go"), "build", "-o", "go", "ask.go", CGO_ENABLED="0", GO111MODULE="off"
        )
        if self._jdk:
            (fresh / "Ask.java").write_text(JAVA)
            _run(fresh, str(self._jdk / "bin" / "javac"), "Ask.java")
            # Debian's has links to /etc, where a container has something else
            _run(fresh, str(self._jdk / "bin" / "jlink"), "--add-modules", "java.base", "--output", "jre")
        fresh.rename(self._folder)

    @cached_property
    def _rootfs(self) -> bytes:
        tree = Rootfs()
        modules = Path(sysconfig.get_path("stdlib"), "lib-dynload").glob("*.so")
        binaries = [Path(sys._base_executable), self._folder / "glibc", self._node, *modules]  # type: ignore[attr-defined]
        shared_libraries(tree, [binary.resolve() for binary in binaries])
        busybox_into(tree)
        tree.write("bin/idle", "#!/bin/sh\ntrap 'exit 0' TERM INT\nsleep 2147483647 &\nwait\n", 0o755)
        return tree.bytes()

    def image(self, engine: Engine) -> str:
        """The image in an engine; a container of it waits until it is told to stop."""
        if not engine.has_image(self._tag):
            engine.load_image(self._tag, self._rootfs, 'CMD ["idle"]', "ENV PATH=/bin")
        return self._tag

    @property
    def mounts(self) -> dict[Path, str]:
        """What is to be mounted read-only, by where it is here."""
        return {
            self._folder: PROGRAMS,
            self._node: NODE_BINARY,
            Path(sys.base_prefix): "/opt/python",
            Path(sysconfig.get_path("purelib")): "/opt/packages",
            REPO: "/opt/source",
        }

    @property
    def options(self) -> tuple[str, ...]:
        """The mounts as options of ``docker run``."""
        return tuple(w for here, there in self.mounts.items() for w in ("--volume", f"{here}:{there}:ro"))

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are to be had here."""
        return tuple(name for name in COMMANDS if name != "java" or self._jdk)


def ask(engine: Engine, container: str, client: str, *names: str) -> list[str | set[str]]:
    """What a client says in a container of each name: its addresses, or why there are none."""
    said = engine.docker("exec", container, *COMMANDS[client], *names)
    found = [heard(line) for line in said.splitlines()]
    assert len(found) == len(names), said
    return found


class Watch:
    """A client that asks on and on in a container; it ends with the container at the latest."""

    def __init__(self, engine: Engine, container: str, client: str, log: Path, *names: str) -> None:
        self._log, self._names = log, names
        words = ("exec", "--env", "WATCH=1", container, *COMMANDS[client], *names)
        with log.open("w") as out:
            self._process = subprocess.Popen(
                [which("docker") or "docker", *words], env=engine.env, stdin=subprocess.DEVNULL, stdout=out
            )

    @property
    def lines(self) -> list[str]:
        """All that was said so far, whole lines only."""
        return self._log.read_text().split("\n")[:-1]

    def last(self) -> dict[str, str | set[str]]:
        """What was said last of each name."""
        return {line.partition(" ")[0]: heard(line) for line in self.lines[-len(self._names) :]}

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def heard(line: str) -> str | set[str]:
    """What one line says."""
    _, _, rest = line.strip().partition(" ")
    return rest.removeprefix("! ") if rest.startswith("!") else set(rest.split())


def _jdk() -> Path | None:
    compiler = which("javac")
    return Path(compiler).resolve().parents[1] if compiler else None


def _run(folder: Path, *command: str, **env: str) -> None:
    done = subprocess.run(
        command, cwd=folder, env=os.environ | env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
