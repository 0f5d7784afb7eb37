"""python-consul's endpoints over aiohttp.

python-consul's classes build the requests and read the replies; this transport carries them. It
also mends what the library leaves out: the token goes into a header and never into a URL, every
request ends, errors have types, and the index keeps what else the headers say.
API: https://developer.hashicorp.com/consul/api-docs
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import aiohttp
from consul import base
from yarl import URL

from discoverd.sources.consul.errors import (
    AwayError,
    BusyError,
    ConsulError,
    DeniedError,
    NotFoundError,
    RequestError,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

    from discoverd.sources.consul.settings import ConsulSettings

    Params = Sequence[tuple[str, Any]] | None
    Callback = Callable[[base.Response], Any]

#: Seconds that an agent has for an answer it need not wait for, and beyond a wait that was asked for.
PATIENCE = 10.0
CONNECT_PATIENCE = 5.0  # seconds
#: The agent stretches a wait by up to a sixteenth, to spread its work.
STRETCH = 17 / 16
#: Seconds and probes after which a peer that vanished is noticed behind a query that waits.
KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 3), (socket.TCP_KEEPCNT, 3))
#: What read requests may be asked with.
READS = ("/v1/health/", "/v1/catalog/", "/v1/query/")


class Index(str):
    """X-Consul-Index, and how current the answer is: ``known_leader`` False or a ``last_contact`` of
    many milliseconds mean that it may be old.
    """

    __slots__ = ("known_leader", "last_contact")
    known_leader: bool
    last_contact: int

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Index:
        index = cls(headers.get("X-Consul-Index", ""))
        index.known_leader = headers.get("X-Consul-KnownLeader", "true") == "true"
        contact = headers.get("X-Consul-LastContact", "0")
        index.last_contact = int(contact) if contact.isdecimal() else 0
        return index

    @property
    def number(self) -> int:
        """The index to block on: 0 where there is none; what is below 1 counts as 1."""
        if not self.isdecimal():
            return 0
        return max(1, int(self))


class Transport(base.HTTPClient):  # type: ignore[misc]  # the library has no types
    """Carries python-consul's requests. Its methods return awaitables; connects when first used."""

    def __init__(self, settings: ConsulSettings, *, connections: int, consistency: str) -> None:
        """``connections`` at a time, 0 for no limit: those then serve one request each, because a
        reused one that has died makes aiohttp send a query again, with an index that may be over.
        """
        self.base_uri = settings.url
        self._settings, self._connections = settings, connections
        self._consistency = "" if consistency == "default" else consistency
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "discoverd"}
        if settings.token:
            self._headers["X-Consul-Token"] = settings.token
        self.namespace = ""
        self._session: aiohttp.ClientSession | None = None
        self._connector: _Connector | None = None

    def get(self, callback: Callback, path: str, params: Params = None) -> Awaitable[Any]:
        return self._request("GET", callback, path, params)

    def put(self, callback: Callback, path: str, params: Params = None, data: str = "") -> Awaitable[Any]:
        return self._request("PUT", callback, path, params, data)

    def post(self, callback: Callback, path: str, params: Params = None, data: str = "") -> Awaitable[Any]:
        return self._request("POST", callback, path, params, data)

    def delete(self, callback: Callback, path: str, params: Params = None) -> Awaitable[Any]:
        return self._request("DELETE", callback, path, params)

    async def close(self) -> None:
        """End all connections at once: one that waits in the agent would not take a leave."""
        if self._session is not None and self._connector is not None:
            self._connector.abort()
            await self._session.close()

    async def _request(
        self, method: str, callback: Callback, path: str, params: Params, data: str = ""
    ) -> Any:
        asked = list(params or ())
        if method == "GET" and path.startswith(READS):
            asked += [(self._consistency, "1")] if self._consistency else []
            asked += [("ns", self.namespace)] if self.namespace else []
        wait = next((float(str(value).rstrip("s")) for key, value in asked if key == "wait"), 0.0)
        timeout = aiohttp.ClientTimeout(total=wait * STRETCH + PATIENCE, sock_connect=CONNECT_PATIENCE)
        url = URL(self.uri(path, asked), encoded=True)
        try:
            async with self._open().request(
                method,
                url,
                data=data or None,
                timeout=timeout,
                allow_redirects=False,
                server_hostname=self._settings.tls_server_name,
            ) as response:
                body, code, headers = await response.text(errors="replace"), response.status, response.headers
        except TimeoutError:
            raise AwayError(f"{self.base_uri} does not answer: {method} {path}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise AwayError(f"{self.base_uri} cannot be reached: {_reason(error)}") from None
        if code != 200:
            raise _fault(code, body, f"{self.base_uri}{path}")
        try:
            return callback(base.Response(code, {"X-Consul-Index": Index.of(headers)}, body))
        except (ValueError, KeyError, TypeError, AttributeError):
            text = f"{self.base_uri}{path}: no answer of a Consul agent: {body[:60]!r}"
            raise AwayError(text) from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._connector = _Connector(
                limit=self._connections,
                force_close=not self._connections,
                ssl=tls(self._settings) if self._settings.url.startswith("https:") else True,
                socket_factory=_socket,
            )
            self._session = aiohttp.ClientSession(connector=self._connector, headers=self._headers)
        return self._session


class _Connector(aiohttp.TCPConnector):
    """Knows its connections even after their requests were cancelled."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._transports: WeakSet[asyncio.Transport] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        if connection.transport is not None:
            self._transports.add(connection.transport)
        return connection

    def abort(self) -> None:
        for transport in list(self._transports):
            transport.abort()


class Client(base.Consul):  # type: ignore[misc]  # the library has no types
    """An agent's HTTP API: ``agent``, ``catalog``, ``health``, ``query`` and ``status`` as python-consul
    has them, each call to be awaited. Raises ConsulError.
    """

    def __init__(self, settings: ConsulSettings, *, connections: int = 0, consistency: str = "") -> None:
        # Not the library's own: that one lets CONSUL_HTTP_* override what it is given.
        self.http = Transport(
            settings, connections=connections, consistency=consistency or settings.consistency
        )
        self.token = self.dc = None
        self.consistency = "default"  # the transport adds it, to what the library leaves out as well
        self.agent = base.Consul.Agent(self)
        self.catalog = base.Consul.Catalog(self)
        self.health = base.Consul.Health(self)
        self.query = base.Consul.Query(self)
        self.status = base.Consul.Status(self)

    async def get(self, path: str, params: Params = None) -> tuple[Index, str]:
        """The body as it came, for what the library has no call for."""
        answer: tuple[Index, str] = await self.http.get(
            lambda r: (r.headers["X-Consul-Index"], r.body), path, params
        )
        return answer

    async def put(self, path: str, body: str = "", params: Params = None) -> None:
        await self.http.put(lambda r: r.code, path, params, body)

    async def close(self) -> None:
        await self.http.close()


def tls(settings: ConsulSettings) -> ssl.SSLContext:
    """What a private authority and client certificates need. Raises AwayError for files that won't do."""
    name = ""
    try:
        name = settings.tls_ca or ""
        context = ssl.create_default_context(cafile=settings.tls_ca)
        if not settings.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if settings.tls_cert:
            name = settings.tls_cert
            context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ValueError) as error:
        raise AwayError(f"{name}: no certificate that can be used: {_reason(error)}") from None
    return context


def _socket(info: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, *_ = info
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    text = str(getattr(inner, "strerror", None) or inner) or type(inner).__name__
    if isinstance(inner, OSError) and inner.errno and text.startswith(("Connect call failed", "Multiple")):
        text = os.strerror(inner.errno)
    return text.splitlines()[0]


def _fault(code: int, body: str, what: str) -> ConsulError:
    said = " ".join(body.split())[:200] or "nothing more"
    text = f"{what}: {code}: {said}"
    if code == 429:
        return BusyError(text)
    if code in (401, 403):
        return DeniedError(text)
    if code == 404:
        return NotFoundError(text)
    return RequestError(text) if 400 <= code < 500 else AwayError(text)
