"""A real discoverd, as its own process, asked from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.real.debian import REPO
from tests.real.dig import Reply, dig
from tests.real.rest import Response, request
from tests.wait import until

if TYPE_CHECKING:
    from pathlib import Path

LISTENING = re.compile(r"(dns|http)://(\[[^\]]+\]|[^:\s/\"]+):(\d+)")
START_TIMEOUT = 90.0  # seconds; a second or two, but for what else a machine does
#: The contract: SIGTERM ends it within 5 s; a busy machine gets as much again.
STOP_TIMEOUT = 10.0


class Server:
    """One ``discoverd serve``. Its log and both its outputs are one file in ``folder``."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        listen: str = "127.0.0.1:0",
        http: str = "127.0.0.1:0",
        config: str = "",
        env: dict[str, str] | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        """``prefix`` is a command to run it under; ``config`` the text of its configuration file."""
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        if config:
            (folder / "discoverd.toml").write_text(config)  # found there, as its working directory
        command = [*prefix, sys.executable, "-m", "discoverd", "serve", "--listen", listen, "--http", http]
        ours = ("DISCOVERD_", "DOCKER_", "CONSUL_")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        # Only what a test names is read: none of the machine's engines, nameservers or state.
        quiet = {"DISCOVERD_DOCKER": "off", "DISCOVERD_UPSTREAM": "off"}
        quiet["DISCOVERD_STATE_DIR"] = str(folder / "state")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                cwd=folder,
                env=inherited | quiet | {"PYTHONPATH": str(REPO), "PYTHONUNBUFFERED": "1"} | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._host = listen.rpartition(":")[0].strip("[]")
        self._http_host = http.rpartition(":")[0]
        self._wanted = {"dns"} | ({"http"} if http != "off" else set())

    def wait_listening(self) -> None:
        """Until its sockets are bound. AssertionError with its log when it ends instead."""
        until(
            lambda: self._wanted <= self._bound().keys() or self.process.poll() is not None,
            timeout=START_TIMEOUT,
            message=lambda: f"discoverd listens; its log:\n{self.log_text}",
        )
        assert self.process.poll() is None, f"discoverd ended at its start:\n{self.log_text}"

    def _bound(self) -> dict[str, int]:
        bound: dict[str, int] = {}
        for line in self.log_text.splitlines():
            if "listening" in line:
                for scheme, _, port in LISTENING.findall(line):
                    bound.setdefault(scheme, int(port))
        return bound

    @property
    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def dns_port(self) -> int:
        """The port of the first DNS address it listens on."""
        return self._bound()["dns"]

    @property
    def http_port(self) -> int:
        return self._bound()["http"]

    @property
    def url(self) -> str:
        return f"http://{self._http_host}:{self.http_port}"

    def dig(self, name: str, rtype: str = "A", *options: str) -> Reply:
        """Ask it with the real dig, from this host."""
        return dig(self._host, self.dns_port, name, rtype, *options)

    def api(self, path: str, method: str = "GET", body: object = None) -> Response:
        return request(method, self.url + path, body)

    def source(self, kind: str = "docker") -> dict[str, object]:
        """What ``/v1/sources`` says of the first source of this kind or name; empty when there is none."""
        said = self.api("/v1/sources").json
        found = said["sources"] if isinstance(said, dict) else said
        ours = [source for source in found if kind in {source.get("kind"), source.get("name")}]
        return ours[0] if ours else {}

    def wait_source(self, state: str, kind: str = "docker", timeout: float = 30.0) -> dict[str, object]:
        """Until the source is ``syncing``, ``live`` or ``stale``; what it says of itself then."""

        def reached() -> dict[str, object]:
            said = self.source(kind)
            return said if said.get("state") == state else {}

        def otherwise() -> str:
            return f"{kind} is {state}, it says {self.source(kind)}\n{self.log_text}"

        return until(reached, timeout=timeout, message=otherwise)

    def wait_answer(self, name: str, addresses: set[str], rtype: str = "A", timeout: float = 30.0) -> Reply:
        """Until ``name`` has exactly these addresses; the reply that has."""

        def right() -> Reply | None:
            reply = self.dig(name, rtype)
            return reply if reply.addresses == addresses else None

        def otherwise() -> str:
            now = self.dig(name, rtype).text
            return f"{name} {rtype} is {sorted(addresses)}, now:\n{now}\n{self.log_text}"

        found = until(right, timeout=timeout, message=otherwise)
        assert found
        return found

    def freeze(self) -> None:
        """It sees nothing of what happens until :meth:`thaw`."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def terminate(self, timeout: float = STOP_TIMEOUT) -> int:
        """SIGTERM, and its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.thaw()
        return self.process.wait(timeout)

    def close(self) -> None:
        """The end of a test: it must end when told to, and its log hold no traceback."""
        ended_before = self.process.poll() is not None
        try:
            status = self.terminate()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"discoverd did not end on SIGTERM; its log:\n{self.log_text}") from None
        assert "Traceback (most recent call last)" not in self.log_text, self.log_text
        assert ended_before or status == 0, f"discoverd ended with {status}; its log:\n{self.log_text}"
