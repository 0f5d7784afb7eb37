"""One process from start to end: signals, the service manager, who served before and who serves after."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

from discoverd import takeover
from discoverd.app import App
from discoverd.dns.adopt import NONE_HELD, Held
from discoverd.dns.server import BindError
from discoverd.supervise import end_within, explain_faults, spawn
from discoverd.systemd import Manager, PassedError, passed_sockets
from discoverd.takeover import DNS, FILE, HTTP, Handed, Offer, TakeOverError, Taking
from discoverd.webside import COMING_SECONDS
from discoverd.wiring import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from discoverd.config import Config

log = logging.getLogger("discoverd")

#: Seconds after which the process ends, whatever hangs: it has promised to be gone within 5.
ENDED_SECONDS = 4.7
#: Seconds that sources have to be in step before this process takes over; what is kept of them must do then.
IN_STEP_SECONDS = 15.0


async def run(config: Config, *, reload: Callable[[], Config]) -> None:
    """Serve until SIGTERM or SIGINT, or until another process does; SIGHUP reads the configuration again.

    Raises StartError.
    """
    manager = Manager(os.environ)
    try:
        passed = passed_sockets(os.environ)
    except PassedError as error:
        raise StartError(str(error)) from None
    taking = await _meet(config) if config.take_over else None
    app = App(config, passed, _held(taking))
    if taking is None:
        await app.start()
    stop = asyncio.Event()
    _listen_to_signals(app, manager, stop, reload)
    fault: StartError | None = None
    with ExitStack() as stack:
        async with asyncio.TaskGroup() as group:
            running = [spawn(group, "sources", app.run_sources())]
            if manager.watchdog_seconds:
                running.append(spawn(group, "watchdog", manager.watch()))
            try:
                if taking is not None:
                    stack.callback(taking.close)
                    await _take_over(app, taking)
            except StartError as error:
                fault = error
            else:
                manager.ready(app.status)
                if (offer := _offer(app)) is not None:
                    running.append(spawn(group, "take-over", _hand_over(offer, app, stop)))
                await stop.wait()
                await _end(app, manager)
            for task in running:
                task.cancel()
    if fault is not None:
        raise fault


def _listen_to_signals(app: App, manager: Manager, stop: asyncio.Event, reload: Callable[[], Config]) -> None:
    loop = asyncio.get_running_loop()
    explain_faults(loop)

    def stop_or_exit() -> None:
        if stop.is_set():
            os._exit(1)  # asked twice: whatever hangs is left behind
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_or_exit)

    def reload_and_say() -> None:
        manager.reloading()
        app.reload(reload)
        manager.ready(app.status)

    loop.add_signal_handler(signal.SIGHUP, reload_and_say)


async def _end(app: App, manager: Manager) -> None:
    log.info("stopping")
    end_within(ENDED_SECONDS)  # no one cancels it: it ends with the process
    gc.disable()  # the process ends: looking for what to free took half of the time that this takes
    manager.stopping()
    await app.stop()


# -- taking over ----------------------------------------------------------------------------------


async def _meet(config: Config) -> Taking | None:
    folder = config.state_dir
    if folder is None:
        raise StartError("--take-over: servers meet in the state directory, expected one (--state-dir PATH)")
    try:
        taking = await takeover.begin(folder)
    except TakeOverError as error:
        raise StartError(f"cannot take over from the server of {folder / FILE}: {error}") from None
    if taking is None:
        log.info("nobody to take over from in %s: starting as usual", folder)
    return taking


def _held(taking: Taking | None) -> Held:
    if taking is None:
        return NONE_HELD
    try:
        # that of HTTP is one of DNS's kind; its address tells what it is for
        return Held([each.sock for each in taking.sockets])
    except BindError as error:
        raise StartError(str(error)) from None


async def _take_over(app: App, taking: Taking) -> None:
    """Be ready for everything, then serve beside the old one, then alone. Raises StartError."""
    await app.in_step(IN_STEP_SECONDS)
    try:
        await taking.have_it_yield()
        await app.start()
        taking.serving()
    except TakeOverError as error:
        raise StartError(f"the server that was to be taken over from does not hand over: {error}") from None


# -- being taken over from --------------------------------------------------------------------------


class _Running:
    """What the process that takes over sees of the server."""

    def __init__(self, app: App) -> None:
        self._app = app

    def sockets(self) -> Sequence[Handed]:
        pairs = [each for server in self._app.servers for each in server.listeners]
        found = [Handed(DNS, sock) for each in pairs for sock in (each.udp, each.tcp)]
        return found + [Handed(HTTP, sock) for sock in (self._app.web.sockets if self._app.web else ())]

    async def let_go(self) -> None:
        if self._app.web is not None:
            await self._app.web.stop(COMING_SECONDS)
        await self._app.state.let_go()

    async def take_up(self) -> None:
        try:
            self._app.state.take_up()
        except StartError as error:
            log.error("%s; until the next start they are kept in memory only", error)  # noqa: TRY400
        if self._app.web is not None:
            await self._app.web.start()


def _offer(app: App) -> Offer | None:
    """Be there for the next one, where this one has its state directory."""
    folder = app.state.folder
    if folder is None:
        return None
    offer = Offer(folder, _Running(app))
    try:
        offer.open()
    except OSError as error:
        log.warning("no other process can take over: %s: %s", folder / FILE, error.strerror or error)
        return None
    return offer


async def _hand_over(offer: Offer, app: App, stop: asyncio.Event) -> None:
    await offer.run()
    app.stay()
    stop.set()
