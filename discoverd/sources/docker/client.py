"""The only importer of the docker package: one engine's API as a handful of calls. All of them block.

https://docs.docker.com/reference/api/engine/ ; the version is negotiated, never pinned.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import docker.api.client
import docker.errors
import docker.tls
import docker.types
import requests
import requests.exceptions
import urllib3
import urllib3.exceptions

from discoverd.sources.docker.errors import translate, unreadable
from discoverd.sources.docker.fault import EngineAwayError, EngineError
from discoverd.sources.docker.transport import TcpAdapter, UnixAdapter, socket_there
from discoverd.sources.docker.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from discoverd.sources.docker.settings import DockerSettings
    from discoverd.sources.docker.shape import Json

T = TypeVar("T")

CONNECT_TIMEOUT = 4.0  # seconds
READ_TIMEOUT = 10.0  # seconds; an inspect waits for the container's lock while it is started
#: What the docker client makes of unix:// before requests sees it.
UNIX = "http+docker://"
#: Seconds without an event after which a stream through a network is opened anew.
QUIET = 60.0
#: Connections kept, for the calls that may be under way at once.
CONNECTIONS = 32
#: An event longer than this many octets is none (labels are part of events).
MAX_EVENT = 4 << 20

EVENTS = (
    *("create", "start", "kill", "die", "stop", "destroy", "rename", "pause", "unpause", "update", "restart"),
    *("health_status", "connect", "disconnect"),
    *("remove", "cleanup", "init"),  # Podman's
)
#: Services and nodes are a Swarm manager's; elsewhere there are no such events.
TYPES = ("container", "network", "service", "node")
_FILTERS = json.dumps({"type": list(TYPES), "event": list(EVENTS)})
_TO_RUN = json.dumps({"desired-state": ["running"]})


class _Api(docker.api.client.APIClient):
    """The docker client without the environment's proxies and certificates, and with finite timeouts."""

    def __init__(self, url: str, tls: docker.tls.TLSConfig | bool) -> None:
        self._path = url.removeprefix("unix://") if url.startswith("unix://") else ""
        try:
            super().__init__(url, tls=tls, max_pool_size=CONNECTIONS)
        except BaseException:
            self.close()
            raise

    def _retrieve_server_version(self) -> str:
        # The constructor's own first request: what has to hold for every request is set here.
        self.trust_env = False
        for scheme in ("http://", "https://"):
            self.mount(scheme, TcpAdapter(pool_maxsize=CONNECTIONS))
        if self._path:
            path = f"http+unix://{self._path}"
            self.mount(UNIX, UnixAdapter(path, int(CONNECT_TIMEOUT), max_pool_size=CONNECTIONS))
        version = super()._retrieve_server_version()  # type: ignore[misc]  # not in the stubs
        if not isinstance(version, str):
            raise TypeError(f"ApiVersion is {version!r}")
        return version

    def _set_request_timeout(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        kwargs.setdefault("timeout", (CONNECT_TIMEOUT, READ_TIMEOUT))
        return kwargs

    def call(self, path: str, **kwargs: Any) -> requests.Response:
        """GET ``path`` below the negotiated version. Raises docker.errors.APIError and requests' errors."""
        response: requests.Response = self._get(self._url(path), **kwargs)  # type: ignore[attr-defined]
        if response.status_code != 200:
            self._raise_for_status(response)  # type: ignore[attr-defined]
            raise ValueError(f"HTTP {response.status_code} for {path}")
        return response


class Feed:
    """An open event stream. Iterated in a thread of its own, closed from any."""

    def __init__(self, url: str, response: requests.Response) -> None:
        self._url, self._response = url, response
        self._closed = False

    def __iter__(self) -> Iterator[Json]:
        """Events as they come; ends when nothing came for QUIET seconds, or by :meth:`close`.

        Raises EngineAwayError when the engine ends it, and for anything that is no event.
        """
        rest = b""
        try:
            for chunk in self._response.iter_content(chunk_size=None):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_EVENT:
                    raise EngineAwayError(f"what answers at {self._url} sends no events of a Docker Engine")
                for line in lines:
                    if line.strip():
                        yield _event(self._url, line)
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if _is_timeout(error):
                return
        finally:
            self._response.close()
        if not self._closed:
            raise EngineAwayError(f"{self._url} ended the event stream")

    def close(self) -> None:
        """End it, also under a reader that waits in another thread."""
        self._closed = True
        with contextlib.suppress(OSError, AttributeError):  # where it has ended already
            docker.types.CancellableStream(iter(()), self._response).close()


def _event(url: str, line: bytes) -> Json:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise EngineAwayError(f"what answers at {url} sends no events of a Docker Engine: {line[:60]!r}")
    return event


def _is_timeout(error: Exception) -> bool:
    """Requests wraps a read timeout within a body in a ConnectionError."""
    timeouts = requests.exceptions.Timeout | urllib3.exceptions.ReadTimeoutError | TimeoutError
    return isinstance(error, timeouts) or any(isinstance(arg, timeouts) for arg in error.args)


class Client:
    """One engine. Its calls block, may come from several threads, and raise EngineError or a kind of it."""

    def __init__(self, settings: DockerSettings) -> None:
        """Connect and negotiate the API version. Raises EngineAwayError."""
        self.url = settings.url
        self._own_certificate = bool(settings.tls_cert) if settings.tls else None
        self._tunnel = Tunnel(settings.url) if settings.url.startswith("ssh://") else None
        base = f"unix://{self._tunnel.socket}" if self._tunnel else _base_url(settings)
        self._socket = self._found = None
        if self.url.startswith("unix://"):
            self._socket = self.url.removeprefix("unix://")
            self._found = socket_there(self._socket)
        try:
            self._api = _Api(base, _tls(settings))
        except Exception as error:  # whatever something that is no engine makes of the client
            fault = error if isinstance(error, EngineAwayError) else self._translated(error)
            if self._tunnel:
                self._tunnel.close()
            raise fault if isinstance(fault, EngineAwayError) else EngineAwayError(str(fault)) from error

    @property
    def version(self) -> str:
        return self._api.api_version

    def containers(self) -> list[Json]:
        """All containers in short; stale at the moment of an event. Raises EngineAwayError."""
        return self._needed(lambda: _objects(self._api.call("/containers/json", params={"all": 1}).json()))

    def networks(self) -> list[Json]:
        """All networks. Raises EngineAwayError."""
        return self._needed(lambda: _objects(self._api.call("/networks").json()))

    def services(self) -> list[Json]:
        """A swarm's services. Raises NotManagerError, EngineError."""
        return self._try(lambda: _objects(self._api.call("/services").json()))

    def tasks(self) -> list[Json]:
        """A swarm's tasks that are to run, not those that have been. Raises EngineError."""
        return self._try(lambda: _objects(self._api.call("/tasks", params={"filters": _TO_RUN}).json()))

    def nodes(self) -> list[Json]:
        """A swarm's nodes. Raises EngineError."""
        return self._try(lambda: _objects(self._api.call("/nodes").json()))

    def network(self, name: str) -> Json:
        """One network with the endpoints on it. Raises GoneError where there is none, EngineError."""
        return self._try(lambda: _object(self._api.call(f"/networks/{name}").json()))

    def events(self) -> Feed:
        """Open the event stream; no event after this call is missed. Raises EngineAwayError."""
        return self._needed(self._open)

    def inspect(self, container: str) -> Json:
        """One container as it is now. Raises GoneError where there is none, EngineError, EngineAwayError."""
        return self._try(lambda: _object(self._api.inspect_container(container)))

    def close(self) -> None:
        self._api.close()
        if self._tunnel:
            self._tunnel.close()

    def _open(self) -> Feed:
        local = self.url.startswith(("unix://", "ssh://"))
        waits = CONNECT_TIMEOUT, READ_TIMEOUT if local else QUIET
        response = self._api.call("/events", params={"filters": _FILTERS}, stream=True, timeout=waits)
        if local:  # the other end cannot vanish without the socket's end
            sock = self._api._get_raw_response_socket(response)  # type: ignore[attr-defined]  # noqa: SLF001
            self._api._disable_socket_timeout(sock)  # type: ignore[attr-defined]  # noqa: SLF001
        return Feed(self.url, response)

    def _needed(self, call: Callable[[], T]) -> T:
        """For calls without which an engine is of no use."""
        try:
            return self._try(call)
        except EngineAwayError:
            raise
        except EngineError as fault:
            raise EngineAwayError(str(fault)) from fault

    def _try(self, call: Callable[[], T]) -> T:
        if self._socket and (there := socket_there(self._socket)) and there != self._found:
            # kept connections lead to the engine before, new ones to another: never some of each
            raise EngineAwayError(f"another socket is at {self._socket}")
        try:
            return call()
        except Exception as error:  # the docker client lets through what its libraries raise
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> EngineError:
        fault = translate(self.url, error, own_certificate=self._own_certificate)
        if self._tunnel and isinstance(fault, EngineAwayError) and (reason := self._tunnel.reason()):
            return EngineAwayError(reason)
        return fault


def _object(found: Any) -> Json:
    if not isinstance(found, dict):
        raise TypeError(f"expected an object, not {str(found)[:60]!r}")
    return found


def _objects(found: Any) -> list[Json]:
    if not isinstance(found, list):
        raise TypeError(f"expected a list, not {str(found)[:60]!r}")
    return [_object(item) for item in found]


def _base_url(settings: DockerSettings) -> str:
    """The address with the engine's usual port where it names none."""
    url = settings.url.rstrip("/")
    if url.startswith("unix://") or urlsplit(url).port:
        return url
    return f"{url}:{2376 if settings.tls else 2375}"


def _tls(settings: DockerSettings) -> docker.tls.TLSConfig | bool:
    if not settings.tls:
        return False
    for key in ("tls_ca", "tls_cert", "tls_key"):
        if fault := unreadable(key, settings):
            raise EngineAwayError(f"{settings.url}: {key} = {getattr(settings, key)} {fault}")
    if not settings.tls_verify:  # as asked for: no warning with every request
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    pair = (settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None
    return docker.tls.TLSConfig(client_cert=pair, ca_cert=settings.tls_ca, verify=settings.tls_verify)
