from __future__ import annotations

import asyncio
import os
import threading

import pytest

from discoverd.sources.docker.workers import Workers
from tests.wait import until_async


def alive(name: str) -> int:
    return sum(thread.name.startswith(name) for thread in threading.enumerate())


async def test_results_and_errors_come_back() -> None:
    workers = Workers(2, "t-results")
    assert await workers.run(lambda: 3) == 3
    with pytest.raises(KeyError):
        await workers.run(lambda: os.environ["NO_SUCH_VARIABLE"])
    workers.stop()
    await until_async(lambda: alive("t-results") == 0)


async def test_threads_start_as_they_are_needed_and_no_more_than_allowed() -> None:
    workers, gate, running = Workers(3, "t-threads"), threading.Event(), threading.Semaphore(0)

    def call() -> None:
        running.release()
        gate.wait(10)

    await workers.run(lambda: None)
    await workers.run(lambda: None)
    assert alive("t-threads") == 1
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(workers.run(call))
        await until_async(lambda: running._value == 3)
        assert alive("t-threads") == 3
        gate.set()
    workers.stop()
    await until_async(lambda: alive("t-threads") == 0)


async def test_what_nobody_waits_for_any_more_is_closed() -> None:
    class Made:
        closed = threading.Event()

        def close(self) -> None:
            self.closed.set()

    workers, gate, started = Workers(1, "t-closed"), threading.Event(), threading.Event()

    def call() -> Made:
        started.set()
        gate.wait(10)
        return Made()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(workers.run(call))
        await until_async(started.is_set)
        task.cancel()
    gate.set()
    await until_async(Made.closed.is_set)
    assert await workers.run(lambda: 1) == 1
    workers.stop()


def test_a_call_may_outlive_the_loop() -> None:
    gate, started, closed = threading.Event(), threading.Event(), threading.Event()

    class Made:
        def close(self) -> None:
            closed.set()

    def call() -> Made:
        started.set()
        gate.wait(10)
        return Made()

    async def give_up() -> None:
        workers = Workers(1, "t-outlive")
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(workers.run(call))
            await until_async(started.is_set)
            waiting.cancel()
        workers.stop()

    asyncio.run(give_up())
    gate.set()
    assert closed.wait(10)
