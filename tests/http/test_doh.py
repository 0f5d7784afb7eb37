"""DNS over HTTPS messages (RFC 8484): by hand, and with curl's resolver through a TLS front."""

from __future__ import annotations

import base64
import http.client
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import dns.flags
import dns.message
import dns.rcode
import pytest

from discoverd.http.doh import TYPE, freshness
from tests.http.have import or_skip
from tests.real.debian import need

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.real.server import Server


def exchange(
    server: Server, method: str, path: str, body: bytes | None = None, kind: str = TYPE
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10)
    connection.request(method, path, body, {"Content-Type": kind} if body is not None else {})
    reply = connection.getresponse()
    data = reply.read()
    connection.close()
    return reply.status, {k.lower(): v for k, v in reply.getheaders()}, data


def get(server: Server, packet: bytes, padding: str = "") -> tuple[int, dict[str, str], bytes]:
    text = base64.urlsafe_b64encode(packet).decode().rstrip("=") + padding
    return exchange(server, "GET", f"/dns-query?dns={text}")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_answer_as_over_tcp(server: Server, method: str) -> None:
    query = dns.message.make_query("WEB.docker", "A", id=0)
    packet = query.to_wire()
    status, headers, data = (
        get(server, packet) if method == "GET" else exchange(server, "POST", "/dns-query", packet)
    )
    assert status == 200
    assert headers["content-type"] == TYPE
    assert headers["cache-control"] == "max-age=5"
    reply = dns.message.from_wire(data)
    assert query.is_response(reply)
    assert sorted(str(r) for r in reply.answer[0]) == ["192.0.2.11", "192.0.2.12"]
    assert reply.flags & dns.flags.AA


def test_padded_base64_is_understood(server: Server) -> None:
    packet = dns.message.make_query("db.docker", "A").to_wire()
    assert get(server, packet, "=" * (-len(base64.urlsafe_b64encode(packet).rstrip(b"=")) % 4))[0] == 200


@pytest.mark.parametrize(
    ("name", "rtype", "rcode", "age"),
    [
        ("nobody.docker", "A", dns.rcode.NXDOMAIN, 5),
        ("web.docker", "AAAA", dns.rcode.NOERROR, 5),
        ("example.com", "A", dns.rcode.REFUSED, 0),
    ],
)
def test_what_is_not_there_may_be_kept_as_its_soa_says(
    server: Server, name: str, rtype: str, rcode: int, age: int
) -> None:
    status, headers, data = get(server, dns.message.make_query(name, rtype, use_edns=0).to_wire())
    assert status == 200
    assert dns.message.from_wire(data).rcode() == rcode
    assert headers["cache-control"] == f"max-age={age}"


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "status"),
    [
        ("GET", "/dns-query", None, TYPE, 400),
        ("GET", "/dns-query?dns=", None, TYPE, 400),
        ("GET", "/dns-query?dns=a+b", None, TYPE, 400),
        ("GET", "/dns-query?dns=AAAAA", None, TYPE, 400),
        ("GET", "/dns-query?dns=AAAA", None, TYPE, 400),
        ("POST", "/dns-query", b"", TYPE, 400),
        ("POST", "/dns-query", b"\x00" * 11, TYPE, 400),
        ("POST", "/dns-query", b"\x00" * 70_000, TYPE, 413),
        ("POST", "/dns-query", b"\x00" * 20, "text/plain", 415),
        ("PUT", "/dns-query", b"", TYPE, 405),
    ],
)
def test_what_is_no_query_is_refused(
    server: Server, method: str, path: str, body: bytes | None, kind: str, status: int
) -> None:
    got, headers, data = exchange(server, method, path, body, kind)
    assert got == status, data
    assert headers["content-type"].startswith("application/json")
    assert b'"error"' in data


def test_a_response_is_never_answered(server: Server) -> None:
    query = dns.message.make_query("web.docker", "A")
    assert get(server, dns.message.make_response(query).to_wire())[0] == 400


def test_foreign_names_are_forwarded(start: Callable[..., Server]) -> None:
    far = start("--domain", "far")
    near = start("--upstream", f"127.0.0.1:{far.dns_port}")
    status, _, data = get(near, dns.message.make_query("web.far", "A").to_wire())
    assert status == 200
    assert len(dns.message.from_wire(data).answer[0]) == 2


def test_it_needs_no_token(start: Callable[..., Server]) -> None:
    server = start(config='[http]\ntoken = "x"\n')
    assert exchange(server, "POST", "/dns-query", dns.message.make_query("docker", "SOA").to_wire())[0] == 200


def test_freshness_is_the_least_ttl_without_opt() -> None:
    query = dns.message.make_query("web.docker", "A", use_edns=0, payload=1232)
    reply = dns.message.make_response(query)
    reply.answer.append(dns.rrset.from_text("web.docker.", 300, "IN", "A", "10.0.0.1"))
    reply.additional.append(dns.rrset.from_text("web.docker.", 60, "IN", "AAAA", "::1"))
    assert freshness(reply.to_wire()) == 60
    reply.set_rcode(dns.rcode.SERVFAIL)
    assert freshness(reply.to_wire()) == 0
    assert freshness(dns.message.make_response(query).to_wire()) == 0
    for cut in range(12, len(reply.to_wire())):  # never an exception, whatever an upstream sent
        assert freshness(reply.to_wire()[:cut]) >= 0


# -- a real client -------------------------------------------------------------------------------------


@pytest.fixture
def front(server: Server, tmp_path: Path) -> Generator[int]:
    """The port of a TLS front before the server, as a reverse proxy would be."""
    with or_skip():
        openssl = need("openssl", "openssl")
        need("curl", "curl")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", tmp_path / "key", "-out", tmp_path / "cert", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def relay(plain: socket.socket) -> None:
        with (
            suppress(OSError),
            context.wrap_socket(plain, server_side=True) as client,
            socket.create_connection(("127.0.0.1", server.http_port)) as upstream,
        ):
            back = threading.Thread(target=carry, args=(upstream, client))
            back.start()
            carry(client, upstream)
            back.join()

    relays: list[threading.Thread] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                relays.append(threading.Thread(target=relay, args=(plain,)))
                relays[-1].start()

    accepting = threading.Thread(target=serve, daemon=True)
    accepting.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in (accepting, *relays):
        thread.join(10)


def test_curl_resolves_through_it(server: Server, front: int, tmp_path: Path) -> None:
    server.api("/v1/instances/self", "PUT", {"service": "self", "addresses": ["127.0.0.1"]})
    done = subprocess.run(
        [shutil.which("curl") or "curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20",
         "--doh-url", f"https://127.0.0.1:{front}/dns-query", "--cacert", tmp_path / "cert", "--doh-insecure",
         f"http://self.docker:{server.http_port}/healthz"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, '{"status": "alive"}'), done.stderr
