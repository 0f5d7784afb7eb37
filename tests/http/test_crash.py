"""SIGKILL between any two requests loses nothing that was acknowledged."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.real.debian import REPO

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.real.server import Server

#: Deaths of the source alone, and of whole servers; more of them with DISCOVERD_TEST_KILLS.
KILLS = int(os.environ.get("DISCOVERD_TEST_KILLS", "200"))
SERVER_KILLS = max(3, KILLS // 60)
CLIENTS = 6


@pytest.fixture
def folder(tmp_path: Path) -> Generator[Path]:
    """In memory where there is such a place: the kernel keeps files alike, and fsync costs nothing."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="discoverd-test-") as made:
        yield Path(made)


def test_hundreds_of_deaths_under_load_lose_nothing(
    folder: Path, record_property: Callable[[str, object], None]
) -> None:
    command = [sys.executable, "-m", "tests.http.crash", str(folder), str(KILLS)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=KILLS * 2, check=True)
    said = json.loads(done.stdout)
    assert said["lost"] == []
    assert said["kills"] == KILLS
    assert said["acknowledged"] >= KILLS
    record_property("measured SIGKILLs of the lease source", f"{KILLS}, {said['acknowledged']} acknowledged")


class Hammer(threading.Thread):
    """A client that registers and deregisters ids of its own until the server is gone."""

    def __init__(
        self, port: int, number: int, sure: dict[str, int | None], enough: threading.Semaphore
    ) -> None:
        super().__init__(name=f"client {number}")
        self._port, self._number, self.sure, self._enough = port, number, dict(sure), enough
        self.doubt: str | None = None

    def run(self) -> None:
        chance = random.Random(self._number)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            while True:
                ident, weight = f"c{self._number}-{chance.randrange(4)}", chance.randrange(60_000)
                self.doubt = ident
                if chance.random() < 0.7:
                    body = json.dumps(
                        {"service": "web", "addresses": ["10.0.0.1"], "weight": weight, "lease": 600}
                    )
                    connection.request("PUT", f"/v1/instances/{ident}", body)
                    wanted: int | None = weight
                else:
                    connection.request("DELETE", f"/v1/instances/{ident}")
                    wanted = None
                reply = connection.getresponse()
                reply.read()
                assert reply.status in (200, 201, 204, 404), reply.status
                self.sure[ident] = wanted
                self.doubt = None
                self._enough.release()
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()


def test_a_server_that_is_killed_comes_back_with_all_it_acknowledged(
    start: Callable[..., Server], folder: Path
) -> None:
    sure: dict[int, dict[str, int | None]] = {n: {} for n in range(CLIENTS)}
    server = start("--state-dir", str(folder), config="ttl = 5")
    for _ in range(SERVER_KILLS):
        enough = threading.Semaphore(0)
        clients = [Hammer(server.http_port, n, sure[n], enough) for n in range(CLIENTS)]
        for client in clients:
            client.start()
        for _ in range(random.randrange(20, 200)):
            assert enough.acquire(timeout=30)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        for client in clients:
            client.join(timeout=30)
        server = start("--state-dir", str(folder), config="ttl = 5")
        services = server.api("/v1/services").json["services"]
        kept = {i["id"]: i["weight"] for s in services for i in s["instances"]}
        for n, client in enumerate(clients):
            for ident, weight in client.sure.items():
                if ident != client.doubt:
                    assert kept.get(ident) == weight, f"{ident} was acknowledged"
            sure[n] = {ident: kept.get(ident) for ident in client.sure}
