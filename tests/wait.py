"""Waiting on conditions: the only place in the tests that pauses, and only between two looks."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

#: Seconds between two looks: short beside what is waited for, long beside what a look costs.
INTERVAL = 0.02


def _complaint(message: str | Callable[[], str], timeout: float, last: object) -> AssertionError:
    said = message() if callable(message) else message
    return AssertionError(f"not within {timeout:g} s: {said or 'the condition'} (last seen: {last!r})")


def until(
    condition: Callable[[], T],
    *,
    timeout: float = 30.0,
    message: str | Callable[[], str] = "",
    interval: float = INTERVAL,
) -> T:
    """The first truthy value of ``condition``; AssertionError once ``timeout`` seconds are over.

    ``message`` says what was expected; given as a callable, it is asked at the end, so that it
    can tell what the world looks like by then. What ``condition`` raises passes through.
    """
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() >= end:
            raise _complaint(message, timeout, value)
        time.sleep(interval)
    return value


async def until_async(
    condition: Callable[[], T | Awaitable[T]],
    *,
    timeout: float = 30.0,  # noqa: ASYNC109 - it is the deadline of a poll, not of one await
    message: str | Callable[[], str] = "",
    interval: float = INTERVAL,
) -> T:
    """As :func:`until`, on the event loop; ``condition`` may return an awaitable."""
    end = time.monotonic() + timeout
    while True:
        found = condition()
        value: T = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if time.monotonic() >= end:
            raise _complaint(message, timeout, value)
        await asyncio.sleep(interval)
