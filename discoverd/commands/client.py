"""A running server's API as the commands use it. Blocking, and small: commands start fast."""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFAULT_URL = "http://127.0.0.1:8053"
#: Seconds for one request; the server answers from memory.
TIMEOUT = 10.0
#: Seconds of silence after which an event stream is taken for broken; the server says something every 15.
SILENCE = 40.0


class UnreachableError(Exception):
    """The server was not reached; the text says where it was looked for and what to try."""


class RefusedError(Exception):
    """The server said no, in the words of ``text``."""

    def __init__(self, status: int, text: str, field: str | None = None) -> None:
        super().__init__(text)
        self.status, self.field = status, field


class Client:
    """Requests to one server. Raises UnreachableError and RefusedError."""

    def __init__(self, url: str = DEFAULT_URL, token: str | None = None) -> None:
        """Raises ValueError for what is no http or https URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{url}: expected http://host:port or https://host:port")
        self.url = url.rstrip("/")
        self._https, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._prefix, self._token = parts.path.rstrip("/"), token

    def get(self, *path: str, **query: str | None) -> Any:
        """The JSON at a path, given in parts that need no escaping by the caller."""
        given = urlencode({key: value for key, value in query.items() if value is not None})
        return self.send(
            "GET", "/".join(quote(part, safe="") for part in path) + (f"?{given}" if given else "")
        )

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a reply, None where there is none."""
        connection = self._connect(TIMEOUT)
        try:
            reply = self._ask(connection, method, path, body)
            text = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()
        return self._parsed(reply.status, text)

    def events(self, patience: Callable[[], float] = lambda: SILENCE) -> Iterator[tuple[str, Any]]:
        """(event, data) from the event stream until it ends, ("", None) for signs of life.

        Raises TimeoutError when nothing comes for as many seconds as ``patience`` says each time.
        """
        connection = self._connect(patience())
        try:
            reply = self._ask(connection, "GET", "v1/events")
            if reply.status != 200:
                self._parsed(reply.status, reply.read())
            for told in _events(reply):
                yield told
                if connection.sock is not None:
                    connection.sock.settimeout(patience())
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        made = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        return made(self._host, self._port, timeout=timeout)

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None
    ) -> http.client.HTTPResponse:
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, f"{self._prefix}/{path}", data, headers)
        return connection.getresponse()

    def _parsed(self, status: int, text: bytes) -> Any:
        try:
            said = json.loads(text) if text else None
        except ValueError:
            raise UnreachableError(f"{self.url} answers, but it is no discoverd") from None
        if status >= 400:
            message = said.get("error") if isinstance(said, dict) else None
            field = said.get("field") if isinstance(said, dict) else None
            raise RefusedError(status, message or f"{self.url} answered with status {status}", field)
        return said

    def _unreachable(self, error: Exception) -> UnreachableError:
        if isinstance(error, socket.gaierror):
            why = "no such host"
        elif isinstance(error, TimeoutError):
            why = "no answer in time"
        else:
            why = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
        return UnreachableError(
            f"no server at {self.url} ({why}): is `discoverd serve` running there?"
            " --url or DISCOVERD_URL names another"
        )


def _events(reply: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    name = ""
    for raw in reply:
        line = raw.decode().rstrip("\n")
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
        elif line.startswith(":"):
            yield "", None  # a sign of life
