"""Drain: what was sent its stop signal leaves the answers before it ends. On a real engine, under lookups.

Times are the engine's own (its ``kill`` event) and those of the process that asks, by one clock.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import dns.message
import dns.query
import dns.rcode
import pytest

from tests.conftest import MEASURED
from tests.http.stream import Stream
from tests.real.test_convergence import addresses, figures, meanwhile, recording
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.real.conftest import Containers
    from tests.real.engine import Engine
    from tests.real.server import Server

#: Lives on when told to stop, until it is killed: the time in which clients must not be sent there.
STUBBORN = ("sh", "-c", "trap '' TERM HUP USR1 USR2 WINCH; while :; do sleep 1; done")


@dataclass
class Seen:
    """One answer: when it was asked for and given, in Unix nanoseconds, and its addresses."""

    asked: int
    answered: int
    addresses: frozenset[str]


@dataclass
class Lookups:
    """A steady stream of lookups of one name from a thread of its own, all answers kept."""

    server: Server
    name: str
    answers: list[Seen] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._ask, name="lookups")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.is_set():
            question = dns.message.make_query(self.name, "A")
            asked = time.time_ns()
            try:
                reply = dns.query.udp(question, "127.0.0.1", timeout=5, port=self.server.dns_port)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.faults.append(repr(error))
                continue
            if reply.rcode() != dns.rcode.NOERROR:
                self.faults.append(dns.rcode.to_text(reply.rcode()))
            found = frozenset(record.address for rrset in reply.answer for record in rrset)
            self.answers.append(Seen(asked, time.time_ns(), found))

    def now(self) -> frozenset[str]:
        """The answer to a question that is put after this call."""
        begun = time.time_ns()
        latest = until(lambda: [each for each in self.answers[-3:] if each.asked > begun])
        return latest[-1].addresses


class Told:
    """What ``/v1/events`` says, read by a thread of its own: (when it was read, event, data)."""

    def __init__(self, server: Server) -> None:
        self._stream = Stream(server, timeout=120)
        self.events: list[tuple[int, str, Any]] = []
        self._thread = threading.Thread(target=self._read, name="told", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self.events, message="the snapshot comes")
        return self

    def __exit__(self, *_: object) -> None:
        # closing alone would wait for the thread that reads
        connection = self._stream._connection.sock
        assert connection
        connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._stream.__exit__()

    def _read(self) -> None:
        try:
            for name, data in self._stream:
                self.events.append((time.time_ns(), name, data))
        except (OSError, http.client.HTTPException):
            return  # the test is over

    def states(self, container: str) -> list[tuple[int, str]]:
        """When each state of a container was told, and which it was."""
        return [
            (when, instance["state"])
            for when, name, data in self.events
            if name == "change"
            for instance in (*data["added"], *data["updated"])
            if instance["id"] == container
        ]

    def wait_state(self, container: str, state: str, timeout: float = 30) -> int:
        def told() -> int:
            return next((when for when, each in self.states(container) if each == state), 0)

        return until(told, timeout=timeout, message=lambda: f"{state}; told {self.states(container)}")


def first_kill(recorded: Path, name: str) -> int:
    """When the engine first sent a container a signal, in Unix nanoseconds; the end has been recorded."""
    events = [json.loads(line) for line in recorded.read_text().splitlines()]
    kills = [e for e in events if e["Action"] == "kill" and e["Actor"]["Attributes"].get("name") == name]
    return min(int(each["timeNano"]) for each in kills)


@dataclass
class Service:
    """``count`` stubborn containers that are one service, all in the answers."""

    server: Server
    containers: Containers
    name: str
    ids: list[str]

    @property
    def engine(self) -> Engine:
        return self.containers.engine

    def ip(self, container: str) -> str:
        (found,) = addresses(self.engine, container)
        return found

    @property
    def all(self) -> frozenset[str]:
        return frozenset(addresses(self.engine, *self.ids))


@pytest.fixture
def service(
    engine: Engine, containers: Containers, unique: Callable[[str], str], discoverd: Callable[..., Server]
) -> Callable[..., Service]:
    def start(count: int, *options: str, command: tuple[str, ...] = STUBBORN) -> Service:
        server = discoverd(docker=engine)
        name = unique("drained")
        label = ("--label", f"discoverd.service={name}", *options)
        ids = [containers.run(f"{name}-{number}", *label, command=command) for number in range(1, count + 1)]
        made = Service(server, containers, name, ids)
        server.wait_answer(f"{name}.docker", set(made.all))
        return made

    return start


def test_not_one_answer_after_the_stop_signal(
    service: Callable[..., Service], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    made = service(3)
    everyone = made.all
    waits = []
    with (
        recording(made.engine, tmp_path / "events") as events,
        Told(made.server) as told,
        Lookups(made.server, f"{made.name}.docker") as lookups,
    ):
        for victim, name in zip(made.ids[:2], (f"{made.name}-1", f"{made.name}-2"), strict=True):
            gone = made.ip(victim)
            assert gone in lookups.now()
            made.engine.docker("stop", "--time", "2", victim)
            left = everyone - {gone}
            assert lookups.now() == left
            ended = events.last("die", name=name)
            signalled = first_kill(tmp_path / "events", name)
            assert ended - signalled > 1.5e9, "it lived on for the time that it was given"
            seen = told.wait_state(victim, "draining")
            assert seen < ended
            late = [each for each in lookups.answers if each.asked > seen and gone in each.addresses]
            assert not late, f"{len(late)} answers name it, the last {(late[-1].asked - seen) / 1e9} s after"
            last = max(each.answered for each in lookups.answers if gone in each.addresses)
            between = [each for each in lookups.answers if seen < each.asked and each.answered < ended]
            assert len(between) > 20, "there were lookups while it was going"
            assert {each.addresses for each in between} == {left}
            waits.append(max(0, last - signalled))
            everyone = left
    assert not lookups.faults
    # by far less than the time in which it still would have answered
    assert max(waits) < 1e9
    record_property(MEASURED + "stop signal to the last answer that names it", figures(waits))


def test_signals_to_live_with_change_nothing(service: Callable[..., Service]) -> None:
    made = service(2)
    everyone, (first, second) = made.all, made.ids
    with Told(made.server) as told, Lookups(made.server, f"{made.name}.docker") as lookups:
        for signal in ("HUP", "USR1", "USR2", "WINCH"):
            made.engine.docker("kill", "--signal", signal, first)
        # the stream is in order: what comes later has been seen only when these have been
        made.engine.docker("pause", second)
        told.wait_state(second, "paused")
        made.engine.docker("unpause", second)
        told.wait_state(second, "running")
        assert lookups.now() == everyone
    assert "draining" not in {state for _, state in told.states(first)}
    assert all(made.ip(first) in each.addresses for each in lookups.answers)
    assert not lookups.faults


def test_its_own_stop_signal_counts_whatever_it_is(service: Callable[..., Service]) -> None:
    made = service(2, "--stop-signal", "SIGUSR1", "--stop-timeout", "2")
    with Told(made.server) as told:
        with meanwhile(made.engine.docker, "stop", made.ids[0]):
            told.wait_state(made.ids[0], "draining")
            made.server.wait_answer(f"{made.name}.docker", {made.ip(made.ids[1])})
        assert next(state for _, state in told.states(made.ids[0])) == "draining"


def test_one_that_survives_its_stop_comes_back(service: Callable[..., Service]) -> None:
    made = service(2, "--stop-timeout", "2")
    everyone, survivor = made.all, made.ids[0]
    with Told(made.server) as told, Lookups(made.server, f"{made.name}.docker") as lookups:
        made.engine.docker("kill", "--signal", "TERM", survivor)
        left = told.wait_state(survivor, "draining")
        back = told.wait_state(survivor, "running")
        assert 2e9 <= back - left < 15e9, "after the time that a stop would have given it"
        until(lambda: lookups.now() == everyone)
        during = [each for each in lookups.answers if left < each.asked and each.answered < left + 2e9]
        assert during
        assert {each.addresses for each in during} == {everyone - {made.ip(survivor)}}
    assert not lookups.faults


def test_the_last_one_stays_until_its_end(service: Callable[..., Service]) -> None:
    made = service(1)
    (last,), name = made.ids, f"{made.name}.docker"
    mine = made.all
    with Told(made.server) as told, Lookups(made.server, name) as lookups:
        with meanwhile(made.engine.docker, "stop", "--time", "3", last):
            seen = told.wait_state(last, "draining")
            assert lookups.now() == mine
        ended = told.wait_state(last, "stopped")
        until(lambda: lookups.now() == frozenset())
        during = [each for each in lookups.answers if seen < each.asked and each.answered < seen + 2e9]
        assert {each.addresses for each in during} == {mine}
        assert ended - seen > 2e9
    assert not lookups.faults
    assert made.server.dig(name).nodata


def test_the_last_two_at_once(service: Callable[..., Service]) -> None:
    made = service(2)
    everyone = made.all
    with Told(made.server) as told, Lookups(made.server, f"{made.name}.docker") as lookups:
        with meanwhile(made.engine.docker, "stop", "--time", "3", *made.ids):
            for each in made.ids:
                seen = told.wait_state(each, "draining")
            assert lookups.now(), "better one that is going than none"
        for each in made.ids:
            told.wait_state(each, "stopped")
        until(lambda: lookups.now() == frozenset())
    assert seen
    assert {each.addresses for each in lookups.answers} <= {
        everyone,
        *(frozenset({one}) for one in everyone),
        frozenset(),
    }
    assert not lookups.faults
