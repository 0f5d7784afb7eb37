"""The event stream: a snapshot, then each change, and what becomes of those who don't read."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from discoverd.http.events import CHANGE_MOST, WAITING_MOST, Client, Events
from discoverd.model import Instance
from discoverd.registry import Registry
from tests.http.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.server import Server


def test_a_snapshot_then_each_change(server: Server) -> None:
    with Stream(server) as stream:
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        events = iter(stream)
        name, snapshot = next(events)
        assert name == "snapshot"
        assert snapshot["services"] == server.api("/v1/services").json["services"]
        assert [s["name"] for s in snapshot["sources"]] == ["static", "registered"]
        body: dict[str, Any] = {"service": "pay", "addresses": ["10.1.2.3"]}
        server.api("/v1/instances/a", "PUT", body)
        server.api("/v1/instances/a", "PUT", {**body, "weight": 7})
        server.api("/v1/instances/a", "DELETE")
        (_, added), (_, updated), (_, removed) = (next(events) for _ in range(3))
    assert [i["id"] for i in added["added"]] == ["a"]
    assert [(i["id"], i["weight"]) for i in updated["updated"]] == [("a", 7)]
    assert removed["removed"] == [{"id": "a", "source": "registered", "service": "pay", "scope": ""}]


def test_every_reader_sees_every_change_in_order(server: Server) -> None:
    """Snapshot and changes together are the state, whenever one joins."""

    def follow(number: int) -> list[str]:
        seen: list[str] = []
        with Stream(server) as stream:
            for name, data in stream:
                services = data["services"] if name == "snapshot" else []
                seen += [i["id"] for s in services for i in s["instances"] if s["name"] == "pay"]
                seen += [i["id"] for i in data.get("added", [])]
                if "n59" in seen:
                    return seen
        raise AssertionError(number, seen)

    with ThreadPoolExecutor(12) as pool:
        readers = []
        for n in range(60):
            if n % 5 == 0:
                readers.append(pool.submit(follow, n))
            server.api(f"/v1/instances/n{n}", "PUT", {"service": "pay", "addresses": [f"10.0.0.{n + 1}"]})
        followed = [reader.result(timeout=60) for reader in readers]
    for seen in followed:
        assert sorted(seen) == sorted(f"n{n}" for n in range(60))


def test_a_reader_that_does_not_read_holds_nobody_up(server: Server) -> None:
    sleeper = socket.create_connection(("127.0.0.1", server.http_port))
    sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sleeper.sendall(b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    meta = {f"k{n}": "x" * 180 for n in range(30)}
    for n in range(300):
        body = {"service": "pay", "addresses": ["10.1.2.3"], "meta": meta, "weight": n}
        assert server.api("/v1/instances/a", "PUT", body).status in (200, 201)
    with Stream(server) as stream:
        assert next(iter(stream))[0] == "snapshot"
    sleeper.close()


def test_streams_end_with_the_server(start: Callable[..., Server]) -> None:
    server = start()
    with Stream(server) as stream:
        events = iter(stream)
        next(events)
        assert server.terminate() == 0
        assert list(events) == []


def test_streams_that_were_left_are_forgotten(server: Server) -> None:
    for _ in range(250):  # more than may be open at once
        with Stream(server) as stream:
            assert stream.response.status == 200, stream.response.read()
            next(iter(stream))  # the snapshot has been written: nothing tells the server but the end


# -- the queue itself ------------------------------------------------------------------------------


def test_what_waits_is_bounded_and_replaced_by_a_snapshot() -> None:
    client = Client()
    assert client.take() is None  # the first snapshot
    for n in range(WAITING_MOST):
        client.offer(b"%d " % n)
    assert client.take() == b"".join(b"%d " % n for n in range(WAITING_MOST))
    for _ in range(WAITING_MOST + 1):
        client.offer(b"x")
    client.offer(b"after")
    assert client.take() is None
    assert client.take() == b""


@pytest.mark.parametrize("count", [CHANGE_MOST, CHANGE_MOST + 1])
async def test_a_change_of_very_many_is_told_as_a_snapshot(count: int) -> None:
    registry = Registry()
    local: Any = SimpleNamespace(settings=SimpleNamespace(domains=("docker",)))
    events = Events(registry, local)
    client = Client()
    client.take()
    events.clients.add(client)
    writer = registry.writer("s", "static")
    client.take()  # the new source itself was told
    writer.replace({str(n): [Instance(str(n), "web", "s")] for n in range(count)})
    told = client.take()
    if count > CHANGE_MOST:
        assert told is None
    else:
        assert told
        assert len(json.loads(told.decode().split("data: ")[1])["added"]) == count
