"""To stop accepting without losing whom the loop has accepted already.

asyncio takes a connection from the kernel in one turn of the loop, and makes its transport some turns
later. A server that was closed in between refuses that transport, and the connection is reset.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Turns of the loop until a connection that was accepted is known to its protocol, and some more.
TURNS: Final = 6


def stop_accepting(server: asyncio.Server) -> None:
    """Take no more connections; the server is closed once those that were taken are there."""
    loop = asyncio.get_running_loop()
    for sock in server.sockets:
        loop.remove_reader(sock.fileno())
    _later(loop, TURNS, server.close)


def _later(loop: asyncio.AbstractEventLoop, turns: int, call: Callable[[], None]) -> None:
    if turns:
        loop.call_soon(_later, loop, turns - 1, call)
    else:
        call()


async def settled() -> None:
    """Wait until that is so."""
    for _ in range(TURNS + 1):
        await asyncio.sleep(0)
