"""A client of /v1/events that reads what really comes over the wire."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.real.server import Server


class Stream:
    """Events as (name, data). Use as a context manager."""

    def __init__(self, server: Server, timeout: float = 20) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=timeout)
        self._connection.request("GET", "/v1/events")
        self.response = self._connection.getresponse()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()
        self._connection.close()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        name = ""
        for raw in self.response:
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))
