"""HAProxy before an engine's socket, with a list of calls that it lets through: least privilege, for real."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from tests.real.debian import need
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

CONFIG = """
global
    log stdout format raw local0
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend all
    bind {socket} mode 600
    log global
    # once the response begins: the stream of events has no end
    option logasap
    log-format "%HM %HP %ST"
    http-request deny deny_status 403 unless METH_GET {{ path_reg ^(/v[0-9.]+)?({paths})$ }}
    default_backend engine
backend engine
    server engine {engine}
"""
#: Ids and names in paths: ``/containers/ID/json`` stands for that of any container.
_CONTAINER = re.compile(r"/containers/[^/]+/json")
_VERSION = re.compile(r"^/v[0-9.]+")


class Call(NamedTuple):
    path: str
    status: int


class SocketProxy:
    """Lets through GET of ``paths`` (as the docs write them, ``ID`` for any), and nothing else."""

    def __init__(self, folder: Path, engine: str, paths: Iterable[str]) -> None:
        folder.mkdir()
        self.socket, self._log = folder / "proxy.sock", folder / "log"
        allowed = "|".join(re.escape(path).replace("ID", "[^/]+") for path in paths)
        config = folder / "haproxy.cfg"
        server = engine.removeprefix("unix://") if engine.startswith("unix:") else engine.partition("//")[2]
        config.write_text(CONFIG.format(socket=self.socket, paths=allowed, engine=server))
        command = [need("haproxy", "haproxy"), "-db", "-f", str(config)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(
            lambda: self.socket.exists() or self._process.poll() is not None,
            message=lambda: f"HAProxy listens: {self._log.read_text()}",
        )
        assert self._process.poll() is None, self._log.read_text()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def calls(self) -> list[Call]:
        """What came through or was refused so far, ids left out."""
        lines = re.findall(r"^[A-Z]+ (\S+) (\d+)$", self._log.read_text(), re.MULTILINE)
        return [Call(_CONTAINER.sub("/containers/ID/json", _VERSION.sub("", p)), int(s)) for p, s in lines]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
