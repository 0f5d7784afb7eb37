from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from discoverd.sources.docker import client as client_module
from discoverd.sources.docker.client import Client
from discoverd.sources.docker.fault import EngineAwayError, EngineError, GoneError
from discoverd.sources.docker.settings import DockerSettings
from tests.certificates import Authority
from tests.real.conftest import or_left_out
from tests.sources.docker.speaker import VERSION, engine_like, reply, speaking, speaking_tcp, stream
from tests.wait import until_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sources.docker.speaker import Answer


def connect(url: str, **values: Any) -> Client:
    return Client(DockerSettings(url=url, **values))


def refused(url: str, **values: Any) -> str:
    """What connecting says where it must fail."""
    with pytest.raises(EngineAwayError) as caught:
        connect(url, **values).close()
    return str(caught.value)


def test_no_socket(tmp_path: Path) -> None:
    assert refused(f"unix://{tmp_path}/x.sock") == (
        f"no Docker socket at {tmp_path}/x.sock: is the engine installed and running?"
    )


def test_a_socket_that_nobody_listens_at(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "x.sock"))
    assert refused(f"unix://{tmp_path}/x.sock").startswith(
        f"nothing listens at {tmp_path}/x.sock: the engine has stopped"
    )


def test_a_folder_in_place_of_the_socket(tmp_path: Path) -> None:
    assert refused(f"unix://{tmp_path}") == (
        f"{tmp_path} is a folder, not a socket: it was mounted before the engine's socket existed"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
async def test_no_rights(tmp_path: Path) -> None:
    async with speaking(tmp_path, engine_like()) as url:  # in a folder that is its owner's only
        os.seteuid(65534)
        try:
            said = refused(url)
        finally:
            os.seteuid(0)
    assert said.startswith(f"permission denied on {tmp_path}/engine.sock: add the user to the group docker")
    assert said.endswith("or run as root")


def test_a_port_that_nobody_listens_at() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        assert refused(url) == f"nothing listens at {url}: is the engine running there, and the port right?"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"\x00\x01junk\r\n", "what answers at {url} is not a Docker Engine: it does not speak HTTP"),
        (b"", "{url} closed the connection: is that a Docker Engine, and does it speak TLS?"),
        (
            reply("<html>", kind="text/html"),
            "what answers at {url} is not a Docker Engine: it does not speak the engine's API",
        ),
        (reply([1]), "what answers at {url} is not a Docker Engine: it does not speak the engine's API"),
        (reply({}), "what answers at {url} is not a Docker Engine: it does not speak the engine's API"),
        (
            reply({"ApiVersion": 1.41}),
            "what answers at {url} is not a Docker Engine: it does not speak the engine's API",
        ),
        (
            reply({"ApiVersion": "x.y"}),
            "what answers at {url} is not a Docker Engine: it does not speak the engine's API",
        ),
        (
            reply({"ApiVersion": "1.12"}),
            "{url} is too old an engine: expected API 1.24 or later (Docker 1.12); upgrade it",
        ),
        (reply("Forbidden", "403 Forbidden", "text/plain"), "{url} refuses: Forbidden (HTTP 403)"),
        (
            reply({"message": "client version 1.24 is too old"}, "400 Bad Request"),
            "{url} refuses: client version 1.24 is too old (HTTP 400)",
        ),
        (
            reply("Client sent an HTTP request to an HTTPS server.\n", "400 Bad Request", "text/plain"),
            "{url} speaks TLS: give tls_ca (and tls_cert, tls_key), or the address as https://",
        ),
    ],
)
async def test_what_is_no_engine(tmp_path: Path, answer: bytes, said: str) -> None:
    async with speaking(tmp_path, lambda _: answer) as url:
        assert await asyncio.to_thread(refused, url) == said.format(url=url)


async def test_one_that_gives_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "READ_TIMEOUT", 0.2)
    async with speaking(tmp_path, lambda _: b"", stay=True) as url:
        assert await asyncio.to_thread(refused, url) == f"{url} gives no answer: is the engine hanging?"


async def test_tls_where_none_is_spoken() -> None:
    async with speaking_tcp(VERSION) as address:
        said = await asyncio.to_thread(refused, f"https://{address}")
    assert said == (
        f"https://{address} does not speak TLS: give the address as tcp://,"
        " without tls_ca, tls_cert and tls_key"
    )


@pytest.mark.parametrize("key", ["tls_ca", "tls_cert", "tls_key"])
def test_tls_files_that_cannot_be_read(tmp_path: Path, key: str) -> None:
    missing = str(tmp_path / key)
    with or_left_out():
        made = Authority(tmp_path / "made")
    pair = made.sign("client")
    files = {"tls_ca": made.ca, "tls_cert": pair.cert, "tls_key": pair.key, key: missing}
    said = refused("tcp://127.0.0.1:1", **files)
    assert said == f"tcp://127.0.0.1:1: {key} = {missing} cannot be read: No such file or directory"


async def test_the_environments_proxies_and_certificates_are_not_the_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none"))
    async with speaking_tcp(VERSION) as address:
        client = await asyncio.to_thread(connect, f"tcp://{address}")
        assert client.version == "1.41"
        client.close()


async def call(folder: Path, answer: Answer, what: Callable[[Client], Any]) -> Any:
    async with speaking(folder, answer) as url:
        client = await asyncio.to_thread(connect, url)
        try:
            return await asyncio.to_thread(what, client)
        finally:
            client.close()


async def test_only_an_engines_word_makes_a_container_gone(tmp_path: Path) -> None:
    gone = engine_like(json=reply({"message": "No such container: x"}, "404 Not Found"))
    with pytest.raises(GoneError):
        await call(tmp_path, gone, lambda client: client.inspect("x"))
    for status, message in (
        ("404 Not Found", "page not found"),
        ("500 Internal Server Error", "no such luck"),
        ("403 Forbidden", "no"),
    ):
        other = engine_like(json=reply({"message": message}, status))
        with pytest.raises(EngineError) as caught:
            await call(tmp_path, other, lambda client: client.inspect("x"))
        assert not isinstance(caught.value, GoneError | EngineAwayError)
        assert str(caught.value).endswith(f"refuses: {message} (HTTP {status[:3]})")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (engine_like(json=reply({})), "it does not speak the engine's API"),
        (engine_like(json=reply([1])), "it does not speak the engine's API"),
        (engine_like(json=reply("[")), "it does not speak the engine's API"),
        (engine_like(json=reply("", "204 No Content")), "it does not speak the engine's API"),
        (engine_like(json=reply({"message": "Forbidden"}, "403 Forbidden")), "refuses: Forbidden (HTTP 403)"),
    ],
)
async def test_lists_that_are_none(tmp_path: Path, answer: Answer, said: str) -> None:
    with pytest.raises(EngineAwayError) as caught:
        await call(tmp_path, answer, Client.containers)
    assert str(caught.value).endswith(said)


async def test_an_event_stream_that_is_refused(tmp_path: Path) -> None:
    for status in ("400 Bad Request", "403 Forbidden", "500 Internal Server Error"):
        with pytest.raises(EngineAwayError, match="refuses: no events"):
            await call(tmp_path, engine_like(events=reply({"message": "no events"}, status)), Client.events)


def events_of(client: Client) -> list[Any]:
    return list(client.events())


async def test_events_come_whole_however_they_are_cut(tmp_path: Path) -> None:
    lines = b"".join(json.dumps({"n": n, "text": "\u00e4" * n}).encode() + b"\n" for n in range(5))
    for size in (1, 7, 1000):
        cut = [lines[at : at + size] for at in range(0, len(lines), size)]
        async with speaking(tmp_path, engine_like(events=stream(*cut, b"\n\n"))) as url:
            client = await asyncio.to_thread(connect, url)
            seen: list[int] = []
            with pytest.raises(EngineAwayError, match="ended the event stream"):
                await asyncio.to_thread(lambda: seen.extend(event["n"] for event in client.events()))  # noqa: B023
            client.close()
        assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        (stream(), "ended the event stream"),
        (stream(b'{"a":1}\n', end=False), "ended the event stream"),
        (stream(b"<html>\n"), "sends no events of a Docker Engine: b'<html>'"),
        (stream(b"[1]\n"), "sends no events of a Docker Engine: b'[1]'"),
        (reply({"Type": "container"}), "ended the event stream"),
    ],
)
async def test_the_end_of_the_stream_is_never_normal(tmp_path: Path, events: bytes, said: str) -> None:
    with pytest.raises(EngineAwayError) as caught:
        await call(tmp_path, engine_like(events=events), events_of)
    assert str(caught.value).endswith(said)


async def test_an_event_without_end_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_EVENT", 1000)
    with pytest.raises(EngineAwayError, match="sends no events"):
        await call(tmp_path, engine_like(events=stream(*[b"x" * 600] * 2)), events_of)


async def test_a_quiet_stream_through_a_network_just_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(client_module, "QUIET", 1.0)
    async with speaking(tmp_path, engine_like(events=stream(b'{"n":1}\n', end=False)), stay=True) as url:
        client = await asyncio.to_thread(connect, url)
        client.url = "tcp://as-if:2375"  # a unix socket's other end cannot vanish: its stream waits for ever
        assert await asyncio.to_thread(events_of, client) == [{"n": 1}]
        client.close()


async def test_a_reader_that_waits_is_ended_from_another_thread(tmp_path: Path) -> None:
    async with speaking(tmp_path, engine_like(events=stream(b'{"n":1}\n', end=False)), stay=True) as url:
        client = await asyncio.to_thread(connect, url)
        feed = await asyncio.to_thread(client.events)
        seen: list[Any] = []
        thread = threading.Thread(target=lambda: seen.extend(feed), daemon=True)
        thread.start()
        feed.close()
        feed.close()
        await until_async(lambda: not thread.is_alive(), timeout=5)
        client.close()
    assert seen in ([], [{"n": 1}])
