"""``discoverd watch`` and ``discoverd wait``: the event stream as changes, and until a condition holds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from discoverd.commands.client import SILENCE, UnreachableError
from discoverd.commands.services import addresses, fitness, ports, service_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from discoverd.commands.client import Client

#: Seconds between two attempts to reach a server that is away.
RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class Seen:
    """One instance that is there (``=``), came (``+``), changed (``~``) or went (``-``)."""

    sign: str
    instance: Any

    def line(self) -> str:
        value = self.instance
        name = service_name({"name": value["service"], "scope": value["scope"]})
        where = " ".join((*addresses(value["addresses"]), *ports(value["ports"])))
        return f"{self.sign} {name}  {value['id']}  {fitness(value)}  {where}  {value['source']}"

    def as_json(self) -> dict[str, Any]:
        words = {"=": "present", "+": "added", "~": "updated", "-": "removed"}
        return {"change": words[self.sign], "instance": self.instance}


class State:
    """What a stream has told so far. Snapshots may come at any time; what they change is a change."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Any] = {}
        self.domain = ""
        self._first = True

    def take(self, event: str, data: Any) -> list[Seen]:
        if event == "snapshot":
            return self._snapshot(data)
        if event != "change":
            return []
        seen = []
        for value in (*data["added"], *data["updated"]):
            seen.append(Seen("~" if _key(value) in self.known else "+", value))
            self.known[_key(value)] = value
        gone = [self.known.pop(_key(value), None) for value in data["removed"]]
        return seen + [Seen("-", before) for before in gone if before]

    def _snapshot(self, data: Any) -> list[Seen]:
        self.domain = data["domain"]
        now = {_key(i): i for service in data["services"] for i in service["instances"]}
        before, self.known = self.known, now
        if self._first:
            self._first = False
            return [Seen("=", value) for value in now.values()]
        seen = [Seen("-", value) for key, value in before.items() if key not in now]
        seen += [Seen("+", value) for key, value in now.items() if key not in before]
        seen += [Seen("~", value) for key, value in now.items() if before.get(key, value) != value]
        return seen

    def matching(self, name: str) -> list[Any]:
        return [value for value in self.known.values() if matches(value, name, self.domain)]


def _key(value: Any) -> tuple[str, str]:
    return value["source"], value["id"]


def matches(instance: Any, name: str, domain: str) -> bool:
    """Whether an instance answers to a name, with or without the domain, or has it as its id."""
    name = name.lower().rstrip(".")
    return name in instance["names"] or f"{name}.{domain}" in instance["names"] or name == instance["id"]


def watch(client: Client, name: str | None, note: Callable[[str], None]) -> Iterator[Seen]:
    """Everything that is there, then every change, for ever. Raises UnreachableError at the start only:
    later the server is waited for, which ``note`` is told.
    """
    state, reached = State(), False
    while True:
        try:
            for event, data in client.events():
                if not reached:
                    reached = True
                    if state.domain:
                        note("the server is back")
                for seen in state.take(event, data):
                    if name is None or matches(seen.instance, name, state.domain):
                        yield seen
            lost = "the stream has ended"
        except (UnreachableError, TimeoutError) as error:
            if not state.domain:
                raise
            lost = str(error)
        if reached:
            note(f"{lost}; waiting for the server")
            reached = False
        time.sleep(RETRY_SECONDS)


@dataclass(frozen=True)
class Wanted:
    """What is waited for."""

    name: str
    count: int = 1
    healthy: bool = False

    def met(self, state: State) -> list[Any]:
        """The instances that count."""
        return [
            value
            for value in state.matching(self.name)
            if value["state"] == "running" and (not self.healthy or value["health"] == "healthy")
        ]


def wait(client: Client, wanted: Wanted, timeout: float | None) -> tuple[bool, list[Any]]:
    """Block until enough instances are there; (whether they are, those that are).

    Raises UnreachableError when the server was never reached: at once without a timeout, else when
    it is over.
    """
    end = None if timeout is None else time.monotonic() + timeout
    state = State()

    def left() -> float:
        return SILENCE if end is None else max(0.0, end - time.monotonic())

    while True:
        try:
            for event, data in client.events(lambda: min(SILENCE, max(left(), 0.01))):
                state.take(event, data)
                found = wanted.met(state)
                if len(found) >= wanted.count:
                    return True, found
                if left() <= 0:
                    return False, found
        except TimeoutError:
            if left() <= 0:
                return False, wanted.met(state)
        except UnreachableError:
            if not state.domain and (end is None or left() <= 0):
                raise
        if left() <= 0:
            return False, wanted.met(state)
        time.sleep(min(RETRY_SECONDS, left()))
