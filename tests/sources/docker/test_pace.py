from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

from discoverd.sources.docker import pace as pace_module
from discoverd.sources.docker.pace import FIRST_RETRY, GAP, Pace
from tests.wait import until_async

if TYPE_CHECKING:
    import pytest


class Job:
    """Counts runs; each waits for ``gate``."""

    def __init__(self, *results: bool) -> None:
        self.runs: list[tuple[str, float]] = []
        self.results = list(results)
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, key: str) -> bool:
        self.runs.append((key, asyncio.get_running_loop().time()))
        await self.gate.wait()
        return self.results.pop(0) if self.results else True


async def test_the_first_mark_runs_at_once_and_a_burst_ends_in_one_more() -> None:
    job = Job()
    async with asyncio.TaskGroup() as group:
        pace = Pace(group, job)
        pace.mark("a")
        await asyncio.sleep(0)
        assert len(job.runs) == 1
        for _ in range(100):
            pace.mark("a")
    assert [key for key, _ in job.runs] == ["a", "a"]
    assert job.runs[1][1] - job.runs[0][1] >= GAP * 0.99


async def test_keys_do_not_wait_for_each_other() -> None:
    job = Job()
    job.gate.clear()
    async with asyncio.TaskGroup() as group:
        pace = Pace(group, job)
        for key in "abc":
            pace.mark(key)
        await until_async(lambda: len(job.runs) == 3)
        job.gate.set()
    assert [key for key, _ in job.runs] == ["a", "b", "c"]


async def test_a_mark_during_a_run_is_not_lost() -> None:
    job = Job()
    job.gate.clear()
    async with asyncio.TaskGroup() as group:
        pace = Pace(group, job)
        pace.mark("a")
        await until_async(lambda: job.runs)
        pace.mark("a")
        job.gate.set()
    assert len(job.runs) == 2


async def test_a_failure_is_tried_again_by_itself_after_growing_pauses() -> None:
    job = Job(False, False, False, True)
    async with asyncio.TaskGroup() as group:
        Pace(group, job).mark("a")
    times = [time for _, time in job.runs]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert len(pauses) == 3
    assert all(pause >= 0.99 * FIRST_RETRY * 2**number for number, pause in enumerate(pauses))


async def test_a_mark_hastens_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "FIRST_RETRY", 3600.0)
    job = Job(False, True)
    async with asyncio.TaskGroup() as group:
        pace = Pace(group, job)
        pace.mark("a")
        await until_async(lambda: job.runs)
        pace.mark("a")
    assert len(job.runs) == 2


async def test_closing_ends_everything() -> None:
    job = Job()
    job.gate.clear()
    async with asyncio.TaskGroup() as group:
        pace = Pace(group, job)
        pace.mark("a")
        await until_async(lambda: job.runs)
        pace.close()
        pace.mark("b")
    assert [key for key, _ in job.runs] == ["a"]
