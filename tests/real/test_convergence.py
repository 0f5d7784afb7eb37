"""How long from an engine's event to the first right answer: measured, and printed at the end of the run.

Only rightness is asserted. Times are by one clock, that of the machine which the engine runs on,
so they mean something for an engine on this machine only.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any, Self

import dns.message
import pytest

from tests.conftest import MEASURED
from tests.real.debian import which
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from tests.real.compose import Compose
    from tests.real.conftest import Containers
    from tests.real.engine import Engine
    from tests.real.server import Server

SAMPLES = 10
MANY = 200
#: How many come on top of that, in a project of their own.
MORE = 110
#: Seconds between two questions while an answer is waited for: what the figures are exact to.
RESOLUTION = 0.001


class Events:
    """The engine's own record of what happened to the run's containers, with its times."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def last(self, action: str, *, name: str = "") -> int:
        """When the last such event was, in Unix nanoseconds, once the engine has said it."""

        def seen() -> list[dict[str, Any]]:
            events = [
                json.loads(line) for line in self._path.read_text().splitlines(keepends=True) if "\n" in line
            ]
            return [
                each
                for each in events
                if each["Action"] == action and each["Actor"]["Attributes"].get("name", "").startswith(name)
            ]

        found = until(seen, message=f"the engine says {action} of {name}")
        return max(int(each["timeNano"]) for each in found)


@contextmanager
def recording(engine: Engine, path: Path) -> Generator[Events]:
    """All container events of the run while the block lasts, from before its first."""
    ours = ("--filter", f"label={engine.session.label}", "--filter", "type=container")
    command = [which("docker") or "docker", "events", *ours, "--format", "{{json .}}"]
    with path.open("w") as out, subprocess.Popen(command, env=engine.env, stdout=out) as process:
        try:
            # The stream is open once it has said something of a container made for that.
            probe = 0
            while not path.read_text():
                engine.docker("rm", engine.docker("create", engine.image))
                probe += 1
                assert probe < 100, "docker events says nothing"
            yield Events(path)
        finally:
            process.terminate()


class Asker:
    """One question over one TCP connection, again and again, at next to no cost of its own.

    TCP, because 200 addresses do not fit a datagram; only the count of a reply's answers is
    looked at while waiting.
    """

    def __init__(self, server: Server, name: str) -> None:
        query = dns.message.make_query(name, "A").to_wire()
        self._query = len(query).to_bytes(2) + query
        self._socket = socket.create_connection(("127.0.0.1", server.dns_port), timeout=10)
        self._stream = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()

    def ask(self) -> bytes:
        self._socket.sendall(self._query)
        return self._stream.read(int.from_bytes(self._stream.read(2)))

    def count(self) -> int:
        """How many answers there are now."""
        return int.from_bytes(self.ask()[6:8])

    def addresses(self) -> set[str]:
        reply = dns.message.from_wire(self.ask())
        return {record.address for rrset in reply.answer for record in rrset}

    def first(self, count: int, timeout: float = 60.0) -> int:
        """When there first were so many answers, in Unix nanoseconds."""
        return until(
            lambda: time.time_ns() if self.count() == count else 0,
            timeout=timeout,
            interval=RESOLUTION,
            message=lambda: f"{count} answers, now {self.addresses()}",
        )


@contextmanager
def meanwhile(action: Callable[..., object], *args: Any, **options: Any) -> Generator[None]:
    """Runs ``action`` beside the block, and joins it."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(action, *args, **options)
        yield
        done.result()


def figures(nanoseconds: Sequence[int]) -> str:
    values = [each / 1e6 for each in nanoseconds]
    return f"median {median(values):.1f} ms, longest {max(values):.1f} ms, of {len(values)}"


def addresses(engine: Engine, *names: str) -> set[str]:
    """What the engine says they have."""
    networks = [each["NetworkSettings"]["Networks"] for each in engine.inspect(*names)]
    return {each["IPAddress"] for found in networks for each in found.values() if each["IPAddress"]}


def test_one_container(
    engine: Engine,
    containers: Containers,
    unique: Callable[[str], str],
    discoverd: Callable[..., Server],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    server = discoverd(docker=engine)
    server.wait_source("live")
    name = unique("one")
    containers.run(name)
    server.wait_answer(f"{name}.docker", addresses(engine, name))
    started, ended = [], []
    with recording(engine, tmp_path / "events") as events, Asker(server, f"{name}.docker") as asker:
        for _ in range(SAMPLES):
            # The only one of its name leaves when it is gone, not when it is told to go.
            with meanwhile(engine.docker, "kill", name):
                right = asker.first(0)
            ended.append(right - events.last("die", name=name))
            with meanwhile(engine.docker, "start", name):
                right = asker.first(1)
                given = asker.addresses()
            started.append(right - events.last("start", name=name))
            assert given == addresses(engine, name), "the first answer was the right one"
    record_property(MEASURED + "1 container, start event to first right answer", figures(started))
    record_property(MEASURED + "1 container, die event to first right answer", figures(ended))


@pytest.mark.timeout(1800)  # starting them is what takes long, 60 s on an idle machine with two cores
def test_many_containers(
    compose: Compose,
    unique: Callable[[str], str],
    discoverd: Callable[..., Server],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    engine, project = compose.engine, unique("many")
    server = discoverd(docker=engine)
    server.wait_source("live")
    text = f"services: {{web: {{image: '{engine.image}'}}}}"
    up = ("--scale", f"web={MANY}")
    limit = {"COMPOSE_PARALLEL_LIMIT": "8"}

    def record(what: str, *nanoseconds: int) -> None:
        record_property(MEASURED + what.format(MANY), figures(nanoseconds))

    with recording(engine, tmp_path / "events") as events, Asker(server, f"web.{project}.docker") as asker:
        with meanwhile(compose.up, project, text, *up, env=limit):
            right = asker.first(MANY, timeout=900)
            given = asker.addresses()
        truth = addresses(engine, *compose.containers(project))
        assert len(truth) == MANY
        assert given == truth
        took = right - events.last("start", name=project)
        record("{} containers, last start event to all in the answer", took)

        gone = []
        for number in range(1, SAMPLES + 1):
            victim = f"{project}-web-{number}"
            truth -= addresses(engine, victim)
            with meanwhile(engine.docker, "kill", victim):
                right = asker.first(len(truth))
                given = asker.addresses()
            gone.append(right - events.last("kill", name=victim))
            assert given == truth
        record("1 of {} containers killed, kill event to first right answer", *gone)

        # Hundreds that a server finds when it comes: a network has room for 250.
        other = unique("other")
        compose.up(other, text, "--scale", f"web={MORE}", env=limit)
        began = time.monotonic_ns()
        late = discoverd(docker=engine)
        late.wait_source("live")
        took = time.monotonic_ns() - began
        for name, ids in ((project, compose.containers(project)), (other, compose.containers(other))):
            assert late.dig(f"web.{name}.docker", "A", "+tcp").addresses == addresses(engine, *ids)
        record(f"{MANY - SAMPLES + MORE} containers, start of a server to its first sync", took)

        with meanwhile(compose.run, project, "kill"):
            right = asker.first(0, timeout=300)
        took = right - events.last("die", name=project)
        record("{} containers killed, last die event to none in the answer", took)
