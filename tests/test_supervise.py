from __future__ import annotations

import asyncio
import logging

import pytest

from discoverd.supervise import Backoff, Ended, end_within, keep_running, spawn


class Script:
    """A run that does what the script says, one word an attempt, and waits for ever at its end."""

    def __init__(self, *attempts: Exception | None) -> None:
        self.attempts = list(attempts)
        self.waiting = asyncio.Event()

    async def run(self) -> None:
        if not self.attempts:
            self.waiting.set()
            await asyncio.Event().wait()
        fault = self.attempts.pop(0)
        if fault is not None:
            raise fault


class Sleeps:
    """Counts the waits between attempts instead of waiting."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


async def run_until_it_waits(
    script: Script, sleeps: Sleeps, faults: list[Exception], backoff: Backoff
) -> None:
    async with asyncio.TaskGroup() as group:
        work = keep_running("docker/a", script.run, on_fault=faults.append, backoff=backoff, sleep=sleeps)
        task = spawn(group, "docker/a", work)
        assert task.get_name() == "docker/a"
        await script.waiting.wait()
        task.cancel()


async def test_a_fault_is_told_and_logged_once_for_each_change(caplog: pytest.LogCaptureFixture) -> None:
    gone = OSError("gone")
    script = Script(gone, gone, gone, ValueError(), None, gone)
    sleeps, faults = Sleeps(), list[Exception]()
    with caplog.at_level(logging.INFO):
        await run_until_it_waits(script, sleeps, faults, Backoff())
    assert messages(caplog, logging.INFO) == [
        "docker/a failed and is restarted: OSError: gone",
        "docker/a failed and is restarted: ValueError",
        "docker/a failed and is restarted: ended by itself",
        "docker/a failed and is restarted: OSError: gone",
    ]
    assert [type(fault) for fault in faults] == [OSError, OSError, OSError, ValueError, Ended, OSError]
    assert len(sleeps.seconds) == 6
    assert not any(record.exc_info for record in caplog.records)


async def test_a_run_that_lasts_is_well_again(caplog: pytest.LogCaptureFixture) -> None:
    script = Script(OSError("gone"))
    well = asyncio.Event()

    class Waker(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "well again" in record.getMessage():
                well.set()

    logger = logging.getLogger("discoverd.supervise")
    handler = Waker()
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO):
            async with asyncio.TaskGroup() as group:
                backoff = Backoff(healthy_after=0)
                task = spawn(group, "a", keep_running("a", script.run, backoff=backoff, sleep=Sleeps()))
                await asyncio.wait_for(well.wait(), 10)
                task.cancel()
    finally:
        logger.removeHandler(handler)
    assert messages(caplog, logging.INFO)[-1] == "a is well again"


async def test_cancelling_ends_it_while_it_runs_and_while_it_waits() -> None:
    script, waits = Script(), asyncio.Event()

    async def for_ever(_: float) -> None:
        waits.set()
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        running = spawn(group, "a", keep_running("a", script.run))
        waiting = spawn(group, "b", keep_running("b", Script(OSError()).run, sleep=for_ever))
        await script.waiting.wait()
        await waits.wait()
        running.cancel()
        waiting.cancel()
    assert running.cancelled()
    assert waiting.cancelled()


async def test_what_is_no_exception_comes_out() -> None:
    class Stop(BaseException):
        pass

    async def run() -> None:
        raise Stop

    with pytest.raises(Stop):
        await keep_running("a", run, sleep=Sleeps())


def test_waits_double_up_to_the_limit_and_start_over_after_health() -> None:
    backoff = Backoff(first=0.1, limit=5, healthy_after=10)
    steps = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]
    waits = [backoff.after(lasted=1) for _ in steps]
    assert all(step / 2 <= wait <= step for step, wait in zip(steps, waits, strict=True))
    assert backoff.after(lasted=10) <= 0.1
    assert 0.1 <= backoff.after(lasted=0) <= 0.2
    backoff.reset()
    assert backoff.after(lasted=0) <= 0.1


def test_jitter_spreads_the_waits() -> None:
    assert len({Backoff().after(0) for _ in range(20)}) > 1


async def test_what_hangs_at_the_end_is_named_and_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    statuses: list[int] = []

    def exit_process(status: int) -> None:
        statuses.append(status)
        loop.call_soon_threadsafe(ended.set)

    async with asyncio.TaskGroup() as group:
        hangs = spawn(group, "hangs", asyncio.sleep(3600))
        timer = end_within(0.01, exit_process)
        await ended.wait()
        hangs.cancel()
    timer.join()
    assert statuses == [0]
    [line] = messages(caplog, logging.WARNING)
    assert "hangs" in line


async def test_an_end_in_time_is_left_alone() -> None:
    statuses: list[int] = []
    timer = end_within(3600, statuses.append)
    timer.cancel()
    timer.join()
    assert statuses == []
