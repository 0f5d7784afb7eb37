"""A discoverd under test: it lives, is killed and lives again on one port with one state directory."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dns.message
import dns.query

from tests.real.rest import Response, request
from tests.real.server import Server
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Sequence

TOKEN = "chaos"
HOOK = Path(__file__).parent / "hook"
#: Seconds for one answer where one must come.
TIMEOUT = 10.0


class Subject:
    """``name`` tells it from the others, ``number`` gives it ports of its own at ``address``."""

    def __init__(
        self, folder: Path, name: str, number: int, address: str, enter: Sequence[str], flags: Sequence[str]
    ) -> None:
        self.name, self.address, self.dns_port = name, address, 5300 + number
        self._folder, self._enter, self._flags = folder, tuple(enter), tuple(flags)
        self._http_port, self._lives = 8000 + number, 0
        self._holds = folder / "holds.json"
        self.static = "192.0.2.1"
        self.server: Server | None = None
        self.frozen = False
        #: When it was last killed (:func:`time.monotonic`).
        self.killed_at = 0.0
        folder.mkdir()

    @property
    def up(self) -> bool:
        return self.server is not None and not self.frozen

    def launch(self) -> None:
        """Begin a life, and don't wait."""
        assert self.server is None, "it lives already"
        self._lives += 1
        self.server = Server(
            self._folder / f"life{self._lives}",
            *self._flags,
            *("--state-dir", str(self._folder / "state")),
            listen=f":{self.dns_port}",
            http=f"{self.address}:{self._http_port}",
            config=self._config(),
            prefix=self._enter,
            env={
                "PYTHONPATH": os.pathsep.join([str(HOOK), str(Path(__file__).parents[2])]),
                "CHAOS_HOLDS": str(self._holds),
            },
        )

    def start(self) -> None:
        self.launch()
        self.ready()

    def ready(self) -> None:
        assert self.server
        self.server.wait_listening()

    def kill(self) -> None:
        """SIGKILL, at any moment."""
        assert self.server
        self.server.process.send_signal(signal.SIGKILL)
        self.server.process.wait()
        self.killed_at = time.monotonic()
        ended, self.server = self.server, None
        ended.close()  # its log holds no traceback

    def close(self) -> None:
        if self.server is not None:
            ended, self.server = self.server, None
            ended.close()

    def freeze(self) -> None:
        assert self.server
        self.frozen = True
        self.server.freeze()

    def thaw(self) -> None:
        assert self.server
        self.server.thaw()
        self.frozen = False

    # -- asking ---------------------------------------------------------------------------

    def ask(self, name: str, rtype: str = "A", *, tcp: bool = False) -> dns.message.Message:
        """One answer. dns.exception.Timeout or OSError where none comes."""
        query = dns.message.make_query(name, rtype)
        exchange = dns.query.tcp if tcp else dns.query.udp
        return exchange(query, self.address, timeout=TIMEOUT, port=self.dns_port)

    def api(self, path: str, method: str = "GET", body: object = None) -> Response:
        url = f"http://{self.address}:{self._http_port}{path}"
        return request(method, url, body, {"Authorization": f"Bearer {TOKEN}"})

    def workers(self) -> list[int]:
        """The processes of its workers."""
        found: list[dict[str, Any]] = self.api("/v1/sources").json.get("workers") or []
        return [each["pid"] for each in found if each["pid"]]

    # -- configuration --------------------------------------------------------------------

    def reload(self, static: str) -> None:
        """Another address of its static service, told by SIGHUP."""
        assert self.server
        self.static = static
        (self._folder / f"life{self._lives}" / "discoverd.toml").write_text(self._config())
        self.server.process.send_signal(signal.SIGHUP)

    def _config(self) -> str:
        return f'[http]\ntoken = "{TOKEN}"\n[[service]]\nname = "printer"\naddresses = ["{self.static}"]\n'

    # -- what it holds --------------------------------------------------------------------

    def holds(self) -> dict[str, Any]:
        """Tasks by name, threads, files and resident memory, after its garbage was collected."""
        assert self.server
        self._holds.unlink(missing_ok=True)
        self.server.process.send_signal(signal.SIGUSR2)
        until(self._holds.exists, message="it says what it holds")
        said: dict[str, Any] = json.loads(self._holds.read_text())
        return said
