"""What docs/security.md says of the HTTP side, tried from outside."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

import pytest
from aiohttp.test_utils import make_mocked_request

from discoverd.http import gate
from discoverd.http.errors import ApiError
from discoverd.http.guard import Access, guard
from tests.real.rest import request
from tests.real.server import Server
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from aiohttp import web

BODY = {"service": "pay", "addresses": ["192.0.2.9"], "ports": [80]}
TOKENS = """
[http]
token = "the-http-token"
[consul]
url = "http://127.0.0.1:1"
token = "the-consul-token"
"""


@pytest.fixture
def start(tmp_path: Path) -> Generator[Callable[..., Server]]:
    started: list[Server] = []

    def run(*flags: str, **options: str) -> Server:
        started.append(Server(tmp_path / "discoverd", *flags, **options))  # type: ignore[arg-type]
        started[-1].wait_listening()
        return started[-1]

    yield run
    for server in started:
        server.close()


def raw(server: Server, octets: bytes) -> bytes:
    """All that comes back to these octets until the server closes."""
    found = b""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as sock:
        sock.sendall(octets)
        while piece := sock.recv(65536):
            found += piece
    return found


HIDDEN = b"PUT /v1/instances/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
HEAD = b"POST /dns-query HTTP/1.1\r\nHost: localhost\r\n"


AMBIGUOUS = (
    # two words on how long the body is (RFC 9112 section 6.3)
    HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    HEAD + b"Content-Length: 0\r\nContent-Length: 60\r\n\r\n" + HIDDEN,
    HEAD + b"Content-Length: 0, 60\r\n\r\n" + HIDDEN,
    HEAD + b"Content-Length: +0\r\n\r\n" + HIDDEN,
    # an encoding that is none, or in disguise
    HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + HIDDEN,
    # a line that goes on, and one that ends in another way (RFC 9112 sections 5.2 and 2.2)
    HEAD + b"X-A: b\r\n Content-Length: 60\r\n\r\n" + HIDDEN,
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: b\rContent-Length: 60\r\n\r\n" + HIDDEN,
)


def test_a_request_that_can_be_read_in_two_ways_is_refused(start: Callable[..., Server]) -> None:
    server = start()
    for octets in AMBIGUOUS:
        answered = raw(server, octets)
        assert answered.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")), (octets, answered)
        assert answered.count(b"HTTP/1.") == 1, "what hides in it is no request of its own"
    assert server.api("/v1/services").json == {"services": []}


def test_reading_by_a_name_that_was_made_to_point_here(start: Callable[..., Server]) -> None:
    server = start()
    for path in ("/v1/services", "/", "/metrics", "/v1/events"):
        reply = request("GET", server.url + path, None, {"Host": "rebound.example:8053"})
        assert reply.status == 403, path
    for host in ("localhost", f"127.0.0.1:{server.http_port}", "[::1]:8053"):
        assert request("GET", f"{server.url}/v1/services", None, {"Host": host}).status == 200
    assert request("GET", f"{server.url}/healthz", None, {"Host": "any.example"}).status == 200


def test_beyond_loopback_it_is_read_by_any_name(start: Callable[..., Server]) -> None:
    server = start(http="0.0.0.0:0")
    assert request("GET", f"{server.url}/v1/services", None, {"Host": "discoverd.example"}).status == 200


def test_tokens_are_in_no_log(start: Callable[..., Server]) -> None:
    server = start("--log-level", "debug", config=TOKENS)
    for given, status in (("the-http-token", 201), ("some-wrong-token", 401)):
        headers = {"Authorization": f"Bearer {given}"}
        assert request("PUT", f"{server.url}/v1/instances/x", BODY, headers).status == status
    server.wait_source("syncing", kind="consul")
    for path in ("/v1/sources", "/metrics", "/v1/openapi.json"):
        assert "-token" not in server.api(path).text
    assert "consul" in server.log_text, "it has complained of the agent by now"
    assert "-token" not in server.log_text


class Compared(AssertionError):  # noqa: N818
    pass


class Token(str):
    """A token that may not be looked at octet by octet."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> NoReturn:
        raise Compared

    def __ne__(self, other: object) -> NoReturn:
        raise Compared


async def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import hmac

    compared = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return hmac._compare_digest(a, b)  # type: ignore[attr-defined, no-any-return]

    monkeypatch.setattr(hmac, "_compare_digest", hmac.compare_digest, raising=False)
    monkeypatch.setattr(hmac, "compare_digest", compare)

    async def handler(_request: web.Request) -> web.StreamResponse:
        raise AssertionError

    headers = {"Host": "localhost", "Authorization": "Bearer s3creT"}
    wrong = make_mocked_request("PUT", "/v1/instances/x", headers=headers)
    with pytest.raises(ApiError):
        await guard(Access(Token("s3cret")))(wrong, handler)
    assert compared == [(b"s3creT", b"s3cret")]


def test_one_client_cannot_take_all_connections(start: Callable[..., Server]) -> None:
    """Those that it holds are held open, without a word; who comes from elsewhere is served all the while."""
    server = start()

    def healthy(client: str) -> bool:
        place = ("127.0.0.1", server.http_port)
        try:
            with socket.create_connection(place, timeout=20, source_address=(client, 0)) as sock:
                sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return b"".join(iter(lambda: sock.recv(65536), b"")).startswith(b"HTTP/1.1 200 OK\r\n")
        except ConnectionError:
            return False

    with ExitStack() as stack:
        for _ in range(gate.CONNECTIONS_MOST):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.http_port), timeout=20))
        assert not healthy("127.0.0.1")
        assert healthy("127.0.0.2")
    until(lambda: healthy("127.0.0.1"), message="what is closed makes room")
