"""The description of the API, held against the server by schemathesis: many requests, right and wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from discoverd.http.api import Api, Parts
from discoverd.http.guard import Access
from discoverd.http.openapi import description
from discoverd.registry import Registry

if TYPE_CHECKING:
    from typing import Any

    from tests.real.server import Server

#: An endless stream, and messages that no JSON Schema describes: these have tests of their own.
LEFT_OUT = ("/v1/events", "/dns-query")


def test_the_description_is_what_the_server_does(server: Server, tmp_path: Path) -> None:
    left_out: list[str] = [word for path in LEFT_OUT for word in ("--exclude-path", path)]
    program = str(Path(sys.executable).parent / "schemathesis")
    command = [program, "run", f"{server.url}/v1/openapi.json", *left_out]
    # not the stateful phase: it would register under the ids that other sources have given
    flags = (
        "--phases examples,coverage,fuzzing --checks all --max-examples 20 --no-color --request-timeout 20"
    )
    done = subprocess.run(
        [*command, *flags.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert server.process.poll() is None


def test_every_request_is_described() -> None:
    """All routes but the page's, and nothing else; asked of the application itself."""
    registry = Registry()
    nothing: Any = None
    parts = Parts(registry, nothing, nothing, nothing, {}, nothing, nothing)
    routes = Api(parts, Access()).application().router.routes()
    served = {(r.method, r.resource.canonical) for r in routes if r.resource}
    pages = {"/", "/page.css", "/page.js"}
    served = {(method, path) for method, path in served if method != "HEAD" and path not in pages}
    described = {
        (method.upper(), path)
        for path, operations in description()["paths"].items()
        for method in operations
        if method != "parameters"
    }
    assert served == described


def test_the_contracts_requests_are_there() -> None:
    assert {path.removeprefix("/v1") for path in description()["paths"]} == {
        "/services",
        "/services/{name}",
        "/resolve",
        "/instances/{id}",
        "/instances/{id}/renew",
        "/cache",
        "/cache/{name}",
        "/events",
        "/sources",
        "/prometheus-sd",
        "/openapi.json",
        "/metrics",
        "/healthz",
        "/readyz",
        "/dns-query",
    }
