"""A chaos run: random operations and faults, with pauses at which every answer must be the truth.

    python -m tests.chaos.run [--seconds N] [--seed N] [--rate N] [--folder PATH]

One seed chooses one sequence of operations and faults; how far each has come when the next one begins,
the machine decides. Exit status 1 and the reasons where something was wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chaos.compare import Comparison
from tests.chaos.faults import Faults
from tests.chaos.holding import Holding
from tests.chaos.loader import Loader
from tests.chaos.operations import Operations
from tests.chaos.world import World
from tests.real.session import Session
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.subject import Subject
    from tests.chaos.truth import Truth

#: Steps between two pauses.
STEPS = 10
#: Seconds that all parts have to be in step again at a pause: a resync's time, and as much for the machine.
SETTLE = 100.0
#: Seconds after which what is held is taken as the measure: names that are gone are remembered for 300.
WARM = 420.0
#: How likely a step begins a fault.
FAULTY = 0.5


class Chaos:
    """One run in one world. ``say`` gets a line for each step."""

    def __init__(self, world: World, seed: int, rate: int, say: Callable[[str], object]) -> None:
        self.world, self._say = world, say
        self._pick = random.Random(seed)
        self._operations = Operations(world, self._pick)
        self.faults = Faults(world, self._pick)
        self._compare = Comparison(world, self._pick)
        self.load = Loader(rate, world.subjects)
        self.holding = Holding(world.steady)
        self._truth: dict[str, Truth] = {}
        self.operations = 0
        self._look()
        self.settled: list[float] = []

    def close(self) -> None:
        self.faults.end_due(all_of_them=True)
        self.load.close()

    def round(self) -> None:
        """Some steps, then a pause: all faults are over, and all answers are compared."""
        for _ in range(STEPS):
            self._step()
        self.pause()

    def pause(self) -> None:
        for name in self.faults.end_due(all_of_them=True):
            self._say(f"over: {name}")
        began = time.monotonic()
        self._until_right()
        self.settled.append(time.monotonic() - began)
        until(self._leases_are_decided, timeout=SETTLE, message="every lease lasts or is over")
        self._until_right()
        self._compare.further()
        self.load.check()
        for each in self.world.subjects:
            assert each.server
            assert each.api("/healthz").status == 200
            assert "Traceback (most recent call last)" not in each.server.log_text, each.server.log_text
        self._say(f"pause: {self._compare.compared} answers compared, in step after {self.settled[-1]:.1f} s")

    def _until_right(self) -> None:
        wrong: list[str] = []

        def right() -> bool:
            self._settle_leases()
            self._look()
            wrong[:] = self._compare.differences(self._truth)
            return not wrong

        until(right, timeout=SETTLE, interval=0.5, message=lambda: "\n".join(wrong))

    def _leases_are_decided(self) -> bool:
        self._settle_leases()
        return all(leases.decided for leases in self.world.leases.values())

    def empty(self) -> None:
        """Take everything away, so that what is still held is held for nothing."""
        self.faults.end_due(all_of_them=True)
        self._settle_leases()
        for leases in self.world.leases.values():
            leases.forget_all()
        self._look()
        if ids := [c.id for c in self.world.containers]:
            self.world.engine.docker("rm", "--force", *ids)
        for ident in self.world.registered:
            assert self.world.consul.api(f"/v1/agent/service/deregister/{ident}", "PUT").status == 200
        self.pause()

    def measure(self) -> None:
        """The first measure of an empty world is what the next ones are compared with."""
        self.empty()
        self._say(f"holds: {self.holding.measure()}")

    def result(self) -> dict[str, Any]:
        return {
            "operations": self.operations,
            "faults": self.faults.count,
            "pauses": len(self.settled),
            "answers compared": self._compare.compared,
            "seconds until in step": {
                "median": round(statistics.median(self.settled), 1),
                "most": round(max(self.settled), 1),
            },
            "lookups": self.load.end(),
            "held": self.holding.text,
        }

    # -- inside ---------------------------------------------------------------------------

    def _step(self) -> None:
        """One to three operations at a time, and sometimes a fault in the middle of them."""
        pick = self._pick
        self._settle_leases()
        acts = self._choose()
        fault = self.faults.choose() if pick.random() < FAULTY else None
        delay, rest = pick.uniform(0, 0.5), pick.uniform(0.1, 1.0)
        with ThreadPoolExecutor(len(acts) + 1) as pool:
            done = [pool.submit(act) for act in acts]
            if fault is not None:
                _wait(delay)
                self._say(f"begins: {fault.name}")
                self.load.tell(self._truth, self.world.blind | fault.blinds)
                self.faults.begin(fault)
            for each in self.world.subjects:
                if pick.random() < 0.5 and each.up:
                    self._note(self._on_server(each))
            while not all(one.done() for one in done):  # what hangs with a frozen part is let go in time
                self._end_due()
                _wait(0.05)
            for one in done:
                self._note(one.result())
        _wait(rest)
        self._end_due()
        self._look()

    def _choose(self) -> list[Callable[[], str]]:
        """Operations on parts that are there."""
        down = {fault.part for fault in self.faults.active}
        makers = {"engine": self._operations.of_engine, "consul": self._operations.of_consul}
        self._operations.begin_step()
        parts = self._pick.choices(["engine", "consul"], [3, 1], k=self._pick.randint(1, 3))
        return [makers[part]() for part in parts if part not in down]

    def _on_server(self, subject: Subject) -> str:
        if self._pick.random() < 0.15:
            subject.reload(f"192.0.2.{self._pick.randint(1, 250)}")
            return f"{subject.name}: reload"
        return self.world.leases[subject.name].act(self._pick)

    def _settle_leases(self) -> None:
        for each in self.world.subjects:
            if each.up:
                self.world.leases[each.name].settle()

    def _end_due(self) -> None:
        for name in self.faults.end_due():
            self._say(f"over: {name}")

    def _look(self) -> None:
        """The truth of now, as far as it can be asked for; the load is told."""
        down = {fault.part for fault in self.faults.active}
        if "engine" not in down:
            self.world.look()
        if "consul" not in down:
            self.world.hear()
        self._truth = self.world.truth()
        self.load.tell(self._truth, self.world.blind)

    def _note(self, what: str) -> None:
        self.operations += 1
        self._say(what)


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def chaos(
    world: World,
    seed: int,
    rate: int,
    say: Callable[[str], object],
    *,
    warm: Callable[[int], bool],
    over: Callable[[int], bool],
) -> dict[str, Any]:
    """Rounds until it is ``over``; both are given how many there were. From when it is ``warm``, what is
    held must not become more. Returns what was counted. AssertionError with what was wrong.
    """
    run = Chaos(world, seed, rate, say)
    try:
        for rounds in count(1):
            run.round()
            if warm(rounds) and not run.holding.measures:
                run.measure()
            elif over(rounds):
                break
        run.measure()
        return run.result()
    finally:
        run.close()


def _leave(number: int, _frame: object) -> None:
    """Told to end: what was started and made here is taken along."""
    raise SystemExit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=None, help="one of the clock's where none is given")
    parser.add_argument("--rate", type=int, default=2000, help="lookups a second")
    given = parser.parse_args()
    seed = int(time.time()) if given.seed is None else given.seed
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:8.1f} {what}", flush=True)

    signal.signal(signal.SIGTERM, _leave)
    say(f"seed {seed}")
    session = Session()
    try:
        with tempfile.TemporaryDirectory(dir=session.root) as folder:
            world = World(session, Path(folder))
            try:
                start = time.monotonic()
                result = chaos(
                    world,
                    seed,
                    given.rate,
                    say,
                    warm=lambda _: time.monotonic() > start + min(WARM, given.seconds / 3),
                    over=lambda _: time.monotonic() > start + given.seconds,
                )
            finally:
                world.close()
    finally:
        session.close()
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
