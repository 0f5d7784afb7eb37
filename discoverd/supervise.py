"""Named tasks that someone owns: started in a TaskGroup, restarted when they fail, ended with the group."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
import threading
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

logger = logging.getLogger(__name__)

#: Seconds after which it is said again that connections cannot be accepted.
TOLD_AGAIN_SECONDS = 30.0


def explain_faults(loop: asyncio.AbstractEventLoop) -> None:
    """Say in one line what nobody awaits: that connections wait for want of file descriptors.

    asyncio tells of it each second, as often as connections may wait. Anything else is told as it is.
    """
    told = float("-inf")

    def explain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal told
        error = context.get("exception")
        if not isinstance(error, OSError) or not str(context["message"]).startswith("socket.accept()"):
            loop.default_exception_handler(context)
        elif loop.time() - told > TOLD_AGAIN_SECONDS:
            told = loop.time()
            logger.error("connections wait: %s; allow more files (LimitNOFILE=, ulimit -n)", error.strerror)

    loop.set_exception_handler(explain)


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next attempt, in seconds: doubling, with jitter, up to a limit.

    Jitter keeps many that lost one engine from coming back in the same instant.
    """

    first: float = 0.1
    limit: float = 5.0
    #: A run that lasted this long was healthy: the next wait is ``first`` again.
    healthy_after: float = 10.0
    _next: float = 0.0

    def after(self, lasted: float) -> float:
        """The wait after an attempt that lasted so many seconds: half to all of the current step."""
        if lasted >= self.healthy_after or not self._next:
            self._next = self.first
        step = self._next
        self._next = min(step * 2, self.limit)
        return step * random.uniform(0.5, 1.0)  # noqa: S311  # spreads load, keeps no secret

    def reset(self) -> None:
        """Begin with ``first`` again."""
        self._next = 0.0


class Ended(Exception):  # noqa: N818  # what happened, not an error of its own
    """A run that should last for ever returned."""


def spawn(group: asyncio.TaskGroup, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task that the group owns. Its name shows in logs and in ``asyncio.all_tasks``."""
    return group.create_task(work, name=name)


async def keep_running(
    name: str,
    run: Callable[[], Awaitable[None]],
    *,
    on_fault: Callable[[Exception], None] | None = None,
    backoff: Backoff | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Run ``run`` until cancelled; when it fails or returns, wait and run it again.

    The first failure and each different one is logged, and the recovery once a run lasts:
    a fault that stays the same makes one line, not one for each attempt. ``on_fault`` is told
    every time. Only cancellation and what is no Exception come out.
    """
    backoff = backoff or Backoff()
    loop = asyncio.get_running_loop()
    trouble = ""

    def recovered() -> None:
        nonlocal trouble
        if trouble:
            logger.info("%s is well again", name)
        trouble = ""

    while True:
        started = loop.time()
        healthy = loop.call_later(backoff.healthy_after, recovered)
        try:
            await run()
            fault: Exception = Ended("ended by itself")
        except Exception as error:  # noqa: BLE001  # the boundary where a source's faults end
            fault = error
        finally:
            healthy.cancel()
        text = _describe(fault)
        if text != trouble:
            logger.warning("%s failed and is restarted: %s", name, text)
            logger.debug("%s failed here", name, exc_info=fault)
        trouble = text
        if on_fault is not None:
            on_fault(fault)
        await sleep(backoff.after(loop.time() - started))


def _describe(fault: Exception) -> str:
    if isinstance(fault, Ended):
        return str(fault)
    words = str(fault).strip()
    return f"{type(fault).__name__}: {words}" if words else type(fault).__name__


def end_within(seconds: float, exit_process: Callable[[int], None] = os._exit) -> threading.Timer:
    """End the process in so many seconds, whatever hangs by then; the log says what that was.

    Call it on the event loop's thread, once all that must be kept has been. The exit status is 0: what was
    asked for was done, if not tidily. ``cancel()`` calls it off.
    """
    loop, thread = asyncio.get_running_loop(), threading.get_ident()

    def end() -> None:
        names = sorted(task.get_name() for task in asyncio.all_tasks(loop) if not task.done())
        frame = sys._current_frames().get(thread)  # noqa: SLF001  # the documented way to another thread
        where = traceback.extract_stack(frame)[-1] if frame else None
        at = f"{where.filename}:{where.lineno}" if where else "nowhere"
        logger.warning("not ended after %g s: leaving behind %s, at %s", seconds, ", ".join(names), at)
        exit_process(0)

    timer = threading.Timer(seconds, end)
    timer.name, timer.daemon = "end", True
    timer.start()
    return timer
