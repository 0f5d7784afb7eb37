"""A real NSD from Debian's package, as a secondary of the server under test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

from tests.real.debian import need
from tests.wait import until

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
server:
  ip-address: 127.0.0.1@{port}
  server-count: 1
  username: ""
  database: ""
  zonesdir: "{folder}"
  xfrdir: "{folder}"
  pidfile: "{folder}/nsd.pid"
  xfrdfile: "{folder}/xfrd.state"
  zonelistfile: "{folder}/zone.list"
  xfrd-reload-timeout: 0
  rrl-ratelimit: 0
  rrl-whitelist-ratelimit: 0
  verbosity: 2
remote-control:
  control-enable: no
"""
ZONE = """\
zone:
  name: {zone}
  request-xfr: 127.0.0.1@{primary} NOKEY
  allow-notify: 127.0.0.1 NOKEY
  zonefile: "{zone}.zone"
"""


class Nsd:
    """Serves what it fetches from ``primary``, a port on this host. Raises UnavailableError."""

    def __init__(self, folder: Path, primary: int, *zones: str) -> None:
        command = need("nsd", "nsd")
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._log = folder / "log"
        config = CONFIG.format(port=self.port, folder=folder)
        config += "".join(ZONE.format(zone=zone, primary=primary) for zone in zones)
        (folder / "nsd.conf").write_text(config)
        with self._log.open("w") as log:
            # a session of its own: NSD is several processes, which end together
            self._process = subprocess.Popen(
                [command, "-d", "-c", str(folder / "nsd.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        end_session(self._process)

    def running(self) -> bool:
        return self._process.poll() is None


def end_session(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to all of a session that this process leads; SIGKILL to those who do not end by it."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    """A port that was free for UDP and TCP a moment ago."""

    def both() -> int:
        with socket.socket() as stream, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            stream.bind(("127.0.0.1", 0))
            port: int = stream.getsockname()[1]
            try:
                datagrams.bind(("127.0.0.1", port))
            except OSError:
                return 0
            return port

    return until(both, message="a port that is free for UDP and TCP")
