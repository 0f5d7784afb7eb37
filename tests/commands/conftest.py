"""A running server, and the commands as people run them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.real.debian import REPO
from tests.real.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

SERVICES = """
[[service]]
name = "web"
addresses = ["192.0.2.11", "192.0.2.12"]
ports = ["http=8080/tcp"]

[[service]]
name = "db"
scope = "shop"
addresses = ["192.0.2.21"]
port = 5432
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), config=SERVICES)
    server.wait_listening()
    yield server
    server.close()


def environment(url: str, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "PYTHONPATH": str(REPO), "PYTHONUNBUFFERED": "1", "DISCOVERD_URL": url, **more}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "discoverd", *arguments]


@pytest.fixture
def run(server: Server) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run("services", "web")`` against the server of this module."""

    def begin(*arguments: str, url: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            env=environment(server.url if url is None else url, **env),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return begin


@pytest.fixture
def spawn(server: Server) -> Generator[Callable[..., subprocess.Popen[str]]]:
    """The same, left running; ended with the test."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, url: str | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(*arguments),
            env=environment(server.url if url is None else url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()
