from __future__ import annotations

import asyncio

import pytest

from discoverd.sources.docker import sync
from discoverd.sources.docker.fault import EngineAwayError
from discoverd.sources.docker.sync import LANES, Sweep


async def test_all_are_inspected_a_few_at_a_time_with_what_they_lead_to() -> None:
    busy, most, seen = 0, 0, []

    async def inspect(key: str) -> tuple[str, ...]:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        seen.append(key)
        await asyncio.sleep(0)
        busy -= 1
        return ("0", "other", "other") if key == "7" else ()

    async with asyncio.TaskGroup() as group:
        await Sweep(group, inspect).run(str(n) for n in range(50))
    assert sorted(seen) == sorted([*(str(n) for n in range(50)), "other", "0"])
    assert most == LANES


async def test_nothing_to_do() -> None:
    async def inspect(key: str) -> tuple[str, ...]:
        raise AssertionError(key)

    async with asyncio.TaskGroup() as group:
        await Sweep(group, inspect).run([])


async def test_one_that_hangs_holds_up_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "PATIENCE", 0.05)
    gate, seen = asyncio.Event(), []

    async def inspect(key: str) -> tuple[str, ...]:
        if key == "3":
            await gate.wait()
        seen.append(key)
        return ()

    async with asyncio.TaskGroup() as group:
        await Sweep(group, inspect).run(str(n) for n in range(20))
        assert len(seen) == 19
        gate.set()
    assert seen[-1] == "3"


async def test_an_engine_that_goes_away_ends_it() -> None:
    seen = []

    async def inspect(key: str) -> tuple[str, ...]:
        seen.append(key)
        if key == "9":
            raise EngineAwayError("gone")
        return ()

    async with asyncio.TaskGroup() as group:
        with pytest.raises(EngineAwayError, match="gone"):
            await Sweep(group, inspect).run(str(n) for n in range(100))
    assert len(seen) < 100


async def test_closing_ends_what_hangs() -> None:
    started = asyncio.Event()

    async def inspect(key: str) -> tuple[str, ...]:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError(key)

    async with asyncio.TaskGroup() as group:
        sweep = Sweep(group, inspect)
        running = group.create_task(sweep.run(["1", "2"]))
        await started.wait()
        sweep.close()
        await running
