"""One HTTP request with a JSON answer, without proxies or libraries between the test and the server."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Response:
    status: int
    text: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def request(
    method: str, url: str, body: object = None, headers: dict[str, str] | None = None, timeout: float = 10.0
) -> Response:
    """Ask a server, with ``body`` sent as JSON; header names come back lower-case. OSError: no answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        data = None if body is None else json.dumps(body).encode()
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, path, data, {"Content-Type": "application/json"} | (headers or {}))
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace")
        return Response(answer.status, said, {name.lower(): value for name, value in answer.getheaders()})
    finally:
        connection.close()
