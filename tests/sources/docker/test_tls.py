"""TLS to an engine, with a private authority: what works, and one line for each thing that does not."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from discoverd.sources.docker.client import Client
from discoverd.sources.docker.fault import EngineAwayError
from discoverd.sources.docker.settings import DockerSettings
from tests.certificates import Authority, Pair
from tests.real.conftest import or_left_out
from tests.sources.docker.speaker import engine_like

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@dataclass
class Certificates:
    """Those of the engine and of its client, by one authority, and an authority that is another."""

    mine: Authority
    other: Authority
    engine: Pair
    client: Pair


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("tls")
    with or_left_out():
        mine, other = Authority(folder / "mine"), Authority(folder / "other", "other authority")
    return Certificates(mine, other, mine.sign("engine", "IP:127.0.0.1"), mine.sign("client"))


@contextlib.contextmanager
def speaking_tls(given: Certificates, pair: Pair) -> Generator[str]:
    """An engine's answers behind TLS, for clients with a certificate of the authority; its host and port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.load_verify_locations(given.mine.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):  # the test is over
                while True:
                    talk(context, server.accept()[0])

        thread = threading.Thread(target=serve, name="engine behind TLS")
        thread.start()
        try:
            yield "{}:{}".format(*server.getsockname())
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def talk(context: ssl.SSLContext, sock: socket.socket) -> None:
    """One request; whoever is refused is told so before the connection ends, as by an engine."""
    sock.settimeout(5)  # a client that keeps its end open must not hold up the test
    raw = sock.dup()
    with raw, context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False) as secure:
        try:
            secure.do_handshake()
            head = b""
            while not head.endswith(b"\r\n\r\n") and (more := secure.recv(4096)):
                head += more
            if head:
                secure.sendall(engine_like()(head.split()[1].decode()))
        except OSError:
            with contextlib.suppress(OSError):
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(4096):
                    pass


def settings(url: str, given: Certificates, client: Pair | None, ca: str = "") -> DockerSettings:
    pair = (client.cert, client.key) if client else (None, None)
    return DockerSettings(url=url, tls_ca=ca or given.mine.ca, tls_cert=pair[0], tls_key=pair[1])


def refused(wanted: DockerSettings) -> str:
    """What connecting, or the first call, says where it must fail."""

    def use() -> None:
        client = Client(wanted)
        try:
            client.containers()
        finally:
            client.close()

    with pytest.raises(EngineAwayError) as caught:
        use()
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("scheme", ["tcp", "https"])
def test_both_sides_have_certificates(certificates: Certificates, scheme: str) -> None:
    with speaking_tls(certificates, certificates.engine) as place:
        wanted = settings(f"{scheme}://{place}", certificates, certificates.client)
        client = Client(wanted)
        assert client.containers() == []
        client.close()


def test_no_client_certificate(certificates: Certificates) -> None:
    with speaking_tls(certificates, certificates.engine) as place:
        said = refused(settings(f"tcp://{place}", certificates, None))
    assert said == f"tcp://{place} wants a client certificate: give tls_cert and tls_key"


def test_another_authoritys_engine(certificates: Certificates) -> None:
    with speaking_tls(certificates, certificates.engine) as place:
        url = f"tcp://{place}"
        said = refused(settings(url, certificates, certificates.client, certificates.other.ca))
    assert re.fullmatch(
        f"TLS with {url} failed: its certificate is refused, .*; check tls_ca, tls_cert and tls_key", said
    )


def test_another_authoritys_client(certificates: Certificates) -> None:
    stranger = certificates.other.sign("stranger")
    with speaking_tls(certificates, certificates.engine) as place:
        said = refused(settings(f"tcp://{place}", certificates, stranger))
    assert said == f"tcp://{place} refuses the client certificate (unknown ca): check tls_cert and tls_key"


def test_an_expired_client(certificates: Certificates) -> None:
    late = certificates.mine.sign("late", days=-1)
    with speaking_tls(certificates, certificates.engine) as place:
        said = refused(settings(f"tcp://{place}", certificates, late))
    assert said.startswith(f"tcp://{place} refuses the client certificate (certificate expired)")


@pytest.mark.parametrize(
    ("name", "alternative", "days", "said"),
    [
        ("old", "IP:127.0.0.1", -1, "certificate has expired"),
        ("elsewhere", "DNS:engine.example", 1, "not valid for '127.0.0.1'"),
    ],
)
def test_an_engine_whose_certificate_is_not_good(
    certificates: Certificates, name: str, alternative: str, days: int, said: str
) -> None:
    pair = certificates.mine.sign(name, alternative, days=days)
    with speaking_tls(certificates, pair) as place:
        url = f"tcp://{place}"
        found = refused(settings(url, certificates, certificates.client))
    assert found.startswith(f"TLS with {url} failed: its certificate is refused, ")
    assert said in found


def test_files_that_are_no_certificates(certificates: Certificates, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate\n")
    url = "tcp://127.0.0.1:2376"
    for values, wrong in (
        ({"tls_ca": str(junk)}, "tls_ca"),
        ({"tls_cert": str(junk), "tls_key": certificates.client.key}, "tls_cert"),
        ({"tls_cert": certificates.client.cert, "tls_key": str(junk)}, "tls_key"),
        ({"tls_cert": certificates.client.cert, "tls_key": certificates.engine.key}, "tls_key"),
    ):
        said = refused(DockerSettings(url=url, **values))  # type: ignore[arg-type]
        assert said.startswith(f"{url}: {wrong} = "), said
        assert said.endswith((": expected a PEM certificate", ": expected the key of tls_cert")), said
