"""How long from an engine's event to the first right answer, beside who else hears of the same change.

A container is killed and started again and again; all are asked for it all the time. Consul's agent is
told by its API as soon as the engine's event is heard, which is what a registrator does.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import quantiles
from typing import TYPE_CHECKING, Final, Self

from bench import peers
from bench.results import Result, Table
from bench.tools import ROOT, BenchError, generate
from tests.real import engine as engines
from tests.real.consul import ConsulAgent
from tests.real.debian import UnavailableError, need, which
from tests.real.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bench.catalog import Catalog
    from bench.context import Bench
    from bench.peers import Peer
    from bench.servers import Server
    from tests.real.engine import Engine

RATE: Final = 20_000
#: Changes of each kind that are timed, for each round of the effort.
CHANGES: Final = 3
#: Seconds until a change counts as not heard of.
PATIENCE: Final = 60.0
EVENTS: Final = ("start", "die")


def convergence(bench: Bench) -> Result:
    """From the engine's ``start`` and ``die`` to the first answer with and without the container."""
    result = Result("convergence")
    with contextlib.closing(Session()) as session:
        try:
            engine = engines.find(session)
        except UnavailableError as error:
            result.notes.append(f"convergence: left out, {error}")
            return result
        try:
            _measure(bench, engine, result)
        finally:
            engine.remove_all()
            if isinstance(engine, engines.HostedEngine):
                engine.close()
    return result


def _measure(bench: Bench, engine: Engine, result: Result) -> None:
    name, ours = f"conv{engine.session.id}", ("--label", engine.session.label)
    with contextlib.ExitStack() as stack:
        engine.docker("network", "create", *ours, name)
        client = engine.run(f"{name}-client", "--network", name)
        server = bench.serve(_watching(engine.url))
        changes = Changes(engine, name)
        askers = [stack.enter_context(Asker("discoverd", server.port, f"{name}.docker"))]
        pid = engine.docker("inspect", "--format", "{{.State.Pid}}", client)
        inside = (need("nsenter", "util-linux"), f"--net=/proc/{pid}/ns/net")
        askers.append(stack.enter_context(Asker("the engine's own DNS", 53, name, "127.0.0.11", inside)))
        try:
            agent = ConsulAgent(bench.home / "consul", "dev", dev=True)
        except UnavailableError as error:
            result.notes.append(f"convergence: Consul left out, {error}")
        else:
            agent.start()
            stack.callback(agent.kill)
            changes.heard = lambda action: _feed(agent, engine, name, action)
            consul = Asker("Consul, fed by API", agent.dns_port, f"{name}.service.consul")
            askers.append(stack.enter_context(consul))
        stack.enter_context(changes)
        engine.run(name, "--network", name)
        (container,) = engine.inspect(name)
        address = container["NetworkSettings"]["Networks"][name]["IPAddress"]
        for asker in askers:
            asker.first(address)
        number = CHANGES * bench.effort.rounds
        rows = []
        for label, asked, load in (
            ("", askers, contextlib.nullcontext()),
            (f" at {RATE:,}/s", askers[:1], _load(bench, server)),
        ):
            with load:
                took = _change(bench, changes, asked, address, number)
            rows += [(f"{who}{label}", *_figures(each)) for who, each in took.items()]
        note = (
            f"milliseconds from the engine's own time of the event to the first right answer, over {number}"
            " changes of each kind; everybody is asked every 0.5 ms, and all hear of the same changes. The"
            f" engine's own DNS is asked inside a container. {RATE:,} questions a second are for other names,"
            " and are asked of discoverd alone. The engine's DNS has a name as soon as the container's"
            " network is made, before it is started: less than 0"
        )
        columns = ("server", *(f"{event} {what}" for event in EVENTS for what in ("p50 ms", "p99 ms")))
        result.tables.append(Table("convergence", columns, rows, note))


def _change(
    bench: Bench, changes: Changes, askers: list[Asker], address: str, number: int
) -> dict[str, dict[str, list[float]]]:
    """Kill and start the container again and again; milliseconds by server and event."""
    took = {asker.label: {event: list[float]() for event in EVENTS} for asker in askers}
    for turn in range(number):
        bench.tell(f"convergence: change {turn + 1} of {number}")
        for event, command, wanted in (("die", "kill", ""), ("start", "start", address)):
            for asker in askers:
                asker.clear()
            changes.engine.docker(command, changes.name)
            when = changes.last(event)
            for asker in askers:
                took[asker.label][event].append((asker.first(wanted) - when) / 1e6)
    return took


def _figures(took: dict[str, list[float]]) -> tuple[str, ...]:
    cuts = (quantiles(took[event], n=100, method="inclusive") for event in EVENTS)
    return tuple(f"{cut[place]:.1f}" for cut in cuts for place in (49, 98))


def _watching(url: str) -> Peer:
    """discoverd with the catalog of all other experiments, and this engine."""

    def prepare(home: Path, port: int, catalog: Catalog) -> list[str]:
        words = peers.DISCOVERD.prepare(home, port, catalog)
        words[words.index("--docker") + 1] = url
        return words

    return replace(peers.DISCOVERD, prepare=prepare)


@contextlib.contextmanager
def _load(bench: Bench, server: Server) -> Iterator[None]:
    """Other people's questions, until the block is left."""
    questions, effort = bench.questions(server.peer), bench.effort
    flags = ("--warm-up", "0", "--seconds", "2", "--rate", str(RATE))
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            generate([*flags, "127.0.0.1", str(server.port), questions], effort.cores.load, effort.nice)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield
        finally:
            ended.set()
        asking.result()


def _feed(agent: ConsulAgent, engine: Engine, name: str, action: str) -> None:
    """What a registrator does on an event."""
    if action == "die":
        agent.api(f"/v1/agent/service/deregister/{name}", "PUT")
        return
    (container,) = engine.inspect(name)
    address = container["NetworkSettings"]["Networks"][name]["IPAddress"]
    agent.api("/v1/agent/service/register", "PUT", {"ID": name, "Name": name, "Address": address})


class Lines:
    """The lines that a program prints, as they come. A context manager that runs it."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._command, self._env = command, env
        self._lines: list[str] = []
        self._came = threading.Condition()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._env,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.taken(line)
            with self._came:
                self._lines.append(line.rstrip("\n"))
                self._came.notify_all()

    def taken(self, line: str) -> None:
        """Called in the reading thread with each line."""

    def clear(self) -> None:
        """Forget all lines but the last: it says how things are."""
        with self._came:
            del self._lines[:-1]

    def wait(self, found: Callable[[str], int | None], what: str) -> int:
        """The first value that ``found`` gives of a line. Raises BenchError when there is none in time."""
        with self._came:
            looked = self._came.wait_for(
                lambda: any(found(line) is not None for line in self._lines), PATIENCE
            )
            if not looked:
                raise BenchError(f"convergence: {what}: {self._lines[-3:]}")
            return next(value for line in self._lines if (value := found(line)) is not None)


class Asker(Lines):
    """Who asks one server all the time."""

    def __init__(
        self, label: str, port: int, name: str, host: str = "127.0.0.1", prefix: Sequence[str] = ()
    ) -> None:
        super().__init__([*prefix, sys.executable, "-m", "bench.asker", host, str(port), name])
        self.label = label

    def first(self, addresses: str) -> int:
        """When the answer became these addresses, in Unix nanoseconds; for none, when it was asked for."""

        def right(line: str) -> int | None:
            sent, came, found = line.split(" ")
            return int(came if addresses else sent) if found == addresses else None

        return self.wait(right, f"{self.label} does not answer {addresses or 'nothing'}")


class Changes(Lines):
    """The engine's events of one container."""

    def __init__(self, engine: Engine, name: str) -> None:
        said = [word for event in EVENTS for word in ("--filter", f"event={event}")]
        command = [which("docker") or "docker", "events", *said, "--filter", f"container={name}"]
        super().__init__([*command, "--format", "{{json .}}"], engine.env)
        self.engine, self.name = engine, name
        self.heard: Callable[[str], None] = lambda _action: None

    def taken(self, line: str) -> None:
        self.heard(str(json.loads(line)["Action"]))

    def last(self, action: str) -> int:
        """When the last such event was, by the engine's clock in Unix nanoseconds."""

        def said(line: str) -> int | None:
            event = json.loads(line)
            return int(event["timeNano"]) if event["Action"] == action else None

        when = self.wait(said, f"the engine does not say {action}")
        self._lines.clear()
        return when
