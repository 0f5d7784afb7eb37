"""A running discoverd with an HTTP side, as its own process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.real.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

#: Two scopes with a service of one name, one service with several kinds of ports.
SERVICES = """
[[service]]
name = "web"
addresses = ["192.0.2.11", "192.0.2.12"]
ports = ["http=8080/tcp", "5353/udp"]
tags = ["blue"]
meta = { version = "1.4" }

[[service]]
name = "db"
scope = "shop"
addresses = ["192.0.2.21"]
port = 5432

[[service]]
name = "db"
scope = "blog"
addresses = ["192.0.2.22", "2001:db8::22"]
port = 5432
"""


@pytest.fixture
def start(tmp_path: Path) -> Generator[Callable[..., Server]]:
    """A factory of servers; a folder given by name is kept between two of them."""
    servers: list[Server] = []

    def begin(*flags: str, folder: str = "", config: str = SERVICES, **options: Any) -> Server:
        server = Server(tmp_path / (folder or f"server{len(servers)}"), *flags, config=config, **options)
        servers.append(server)
        server.wait_listening()
        return server

    yield begin
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    server = Server(tmp_path_factory.mktemp("shared"), config=SERVICES)
    server.wait_listening()
    yield server
    server.close()


@pytest.fixture
def server(shared: Server) -> Generator[Server]:
    """One server for all tests of a module; what a test registered is gone after it."""
    yield shared
    for service in shared.api("/v1/services").json["services"]:
        for instance in service["instances"]:
            if instance["source"] == "registered":
                shared.api(f"/v1/instances/{instance['id']}", "DELETE")
