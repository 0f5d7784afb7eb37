"""Kills a process that registers, over and over, and compares what it acknowledged with what is kept.

Run as a program of its own, which forks: one start of the interpreter serves hundreds of deaths.
Prints one line of JSON: {"kills", "acknowledged", "lost": [...]}.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from pathlib import Path

from discoverd.ledger import open_ledger
from discoverd.registration import Registration
from discoverd.registry import Registry
from discoverd.sources.leases import LeaseSource

CLIENTS, IDS = 8, 5


async def load(folder: Path, told: int, start: int) -> None:
    """Clients that register and deregister ids of their own; what is acknowledged goes into the pipe."""
    source = LeaseSource(Registry().writer("registered", "registered"))
    source.load(open_ledger(folder))

    async def client(number: int) -> None:
        chance = random.Random(start * CLIENTS + number)
        for step in range(start, start + 100_000):
            ident = f"c{number}-{chance.randrange(IDS)}"
            line = f"{ident} {step}" if chance.random() < 0.7 else f"{ident} -"
            os.write(told, f"? {line}\n".encode())
            if line.endswith("-"):
                await source.delete(ident)
            else:
                await source.put(Registration(ident, "web", ("10.0.0.1",), meta=(("step", str(step)),)))
            os.write(told, f"! {line}\n".encode())

    await asyncio.gather(*(client(n) for n in range(CLIENTS)))


def one_life(folder: Path, start: int, acknowledgements: int, sure: dict[str, str]) -> tuple[int, set[str]]:
    """Start a process, kill it after so many acknowledgements; returns how many, and ids left in doubt.

    ``sure`` is brought up to date: id -> its step or "-".
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            asyncio.run(load(folder, writer, start))
        finally:
            os._exit(1)
    os.close(writer)
    count, doubt, killed = 0, set[str](), False
    with os.fdopen(reader) as lines:
        for line in lines:
            if not line.endswith("\n"):
                break
            mark, ident, step = line.split()
            if mark == "?":
                doubt.add(ident)
            else:
                count += 1
                doubt.discard(ident)
                sure[ident] = step
            if count >= acknowledgements and not killed:
                os.kill(pid, signal.SIGKILL)
                killed = True
    os.waitpid(pid, 0)
    return count, doubt


def main(folder: Path, kills: int) -> None:
    sure: dict[str, str] = {}
    lost: list[str] = []
    acknowledged = 0
    for life in range(kills):
        count, doubt = one_life(folder, life * 100_000, random.randrange(1, 120), sure)
        acknowledged += count
        ledger = open_ledger(folder)
        kept = {ident: dict(json.loads(body)["meta"])["step"] for ident, body in ledger.load().items()}
        ledger.close()
        for ident, step in sure.items():
            if ident not in doubt and kept.get(ident, "-") != step:
                lost.append(f"life {life}: {ident} is {kept.get(ident, '-')}, acknowledged was {step}")
        sure = {ident: kept.get(ident, "-") for ident in sure.keys() | doubt}
    sys.stdout.write(json.dumps({"kills": kills, "acknowledged": acknowledged, "lost": lost}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
