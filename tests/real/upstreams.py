"""Real Unbound and dnsmasq from Debian's packages, as what discoverd asks."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING, Self

from tests.real.debian import need
from tests.real.dig import Reply, dig
from tests.real.nsd import end_session, free_port
from tests.wait import until

if TYPE_CHECKING:
    from pathlib import Path

UNBOUND = """\
server:
  interface: 127.0.0.1@{port}
  {more}
  num-threads: 1
  do-daemonize: no
  use-syslog: no
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: "{folder}/pid"
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  module-config: "iterator"
  minimal-responses: no
  outgoing-range: 512
  so-rcvbuf: 0
remote-control:
  control-enable: no
{zones}
"""


class Program:
    """A name server in the foreground, in a session of its own."""

    def __init__(self, folder: Path, host: str, port: int, *command: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.host, self.port, self._command, self._log = host, port, command, folder / "output"
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def dig(self, name: str, rtype: str = "A") -> Reply:
        return dig(self.host, self.port, name, rtype)

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"

    def wait_answers(self, name: str) -> None:
        """Until it answers a question for this name."""

        def answers() -> bool:
            assert self._process.poll() is None, self._log.read_text()
            return dig(self.host, self.port, name).status == "NOERROR"

        until(answers, message=lambda: f"{self._command[0]} answers:\n{self._log.read_text()}")

    def freeze(self) -> None:
        """It answers nothing, and nobody is told that it does not."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self._process.poll() is None:
            self.thaw()
            end_session(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def unbound(folder: Path, *more: str, zones: str = "", port: int = 0) -> Program:
    """Options of its ``server:`` clause, and other clauses. Raises UnavailableError."""
    command, port = need("unbound", "unbound"), port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    text = UNBOUND.format(port=port, folder=folder, more="\n  ".join(more), zones=zones)
    (folder / "unbound.conf").write_text(text)
    return Program(folder, "127.0.0.1", port, command, "-d", "-c", str(folder / "unbound.conf"))


def dnsmasq(folder: Path, *options: str, host: str = "127.0.0.1", port: int = 0) -> Program:
    """Raises UnavailableError."""
    command, port = need("dnsmasq", "dnsmasq-base"), port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    fixed = (
        "--keep-in-foreground", "--conf-file=/dev/null", f"--pid-file={folder}/pid",
        "--no-hosts", "--no-resolv",
        f"--port={port}", f"--listen-address={host}", "--bind-interfaces", "--log-facility=-",
        "--user=root" if os.geteuid() == 0 else "--user=",
    )  # fmt: skip
    return Program(folder, host, port, command, *fixed, *options)


def certificate(folder: Path, name: str, address: str) -> tuple[Path, Path]:
    """A certificate of its own authority for a name and an address, and its key, by the real openssl."""
    folder.mkdir(parents=True, exist_ok=True)
    made, key = folder / "cert.pem", folder / "key.pem"
    words = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
        f" -addext subjectAltName=DNS:{name},IP:{address} -keyout {key} -out {made}"
    )
    subprocess.run([need("openssl", "openssl"), *words.split()], check=True, capture_output=True)
    return made, key
