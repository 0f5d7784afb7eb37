"""Keeps this host's instances registered with the agent: on every change, and against all that is lost."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Protocol

from discoverd.sources.consul.errors import ConsulError, DeniedError, RequestError
from discoverd.sources.consul.export import ALIVE_NOTE, HEARTBEAT, Plan, reconcile, registrations, step
from discoverd.sources.consul.pace import Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from discoverd.model import Instance
    from discoverd.sources.consul.adapter import Client
    from discoverd.sources.consul.export import Owner, Registration

log = logging.getLogger("discoverd.consul")

#: Seconds between two looks at what the agent really has.
RESYNC = 30.0
#: Seconds for taking everything back at the end; what is not done by then runs out by itself.
FAREWELL = 2.0
#: Seconds until a registration is offered again that the agent would not take.
REFUSED_FOR = 60.0


class ThisHost(Protocol):
    """What of everything that is known stands on this host."""

    def instances(self) -> Iterable[Instance]: ...

    def settled(self) -> bool:
        """Whether all who know of it have said what there is: nothing may be taken back before."""

    def subscribe(self, told: Callable[[], None]) -> Callable[[], None]:
        """Be told of changes; returns the way to stop it."""


class Exporter:
    """Registers while :meth:`run` runs. ``detail`` is where its counts go: ``exported``, ``refused``."""

    def __init__(
        self, client: Client, host: ThisHost, owner: Owner, detail: dict[str, int | str], *, leave: bool
    ) -> None:
        """``leave``: take everything back at the end."""
        self._client, self._host, self._owner, self._detail, self.leave = client, host, owner, detail, leave
        self._known: dict[str, Registration] = {}
        #: Registrations that the agent would not take, and until when they are not offered again.
        self._refused: dict[Registration, float] = {}
        self._changed = asyncio.Event()
        self._said = ""

    async def run(self) -> None:
        """Register until cancelled. An agent that is away, or says no, is logged and tried again."""
        stop = self._host.subscribe(self._changed.set)
        retry = Retry(first=0.2, last=2.0)
        try:
            while True:
                try:
                    await self._settle()
                    await self._keep(retry)
                except ConsulError as error:
                    self._say(f"cannot register: {error}")
                    denied = isinstance(error, DeniedError)
                    await asyncio.sleep(30 if denied else 0.1 + retry.failed())
        finally:
            stop()
            if self.leave:
                await self._take_all_back()

    async def _settle(self) -> None:
        while not self._host.settled():
            self._changed.clear()
            await self._changed.wait()

    async def _keep(self, retry: Retry) -> None:
        """Bring the agent in step, and keep it so until it fails. Raises ConsulError."""
        now = asyncio.get_running_loop().time
        await self._resync()
        retry.reset()
        self._say(f"{len(self._known)} registrations with the agent", logging.INFO)
        resync, beat = now() + RESYNC, now() + HEARTBEAT
        while True:
            await _wait(self._changed, beat - now())
            if self._changed.is_set():
                self._changed.clear()
                if self._host.settled():
                    await self._carry_out(step(self._wanted(), self._known))
            if now() >= resync and self._host.settled():
                resync = now() + RESYNC
                await self._resync()
            elif now() >= beat:
                await self._pass(self._known.values())
            if now() >= beat:
                beat = now() + HEARTBEAT

    def _wanted(self) -> dict[str, Registration]:
        return registrations(self._host.instances(), self._owner)

    async def _pass(self, registrations: Iterable[Registration]) -> None:
        check = self._client.agent.check
        await _all(check.ttl_pass(r.alive_check, ALIVE_NOTE) for r in list(registrations))

    async def _resync(self) -> None:
        """Compare with what the agent really has, mend it, and pass every check."""
        self._changed.clear()
        services, checks = await self._client.agent.services(), await self._client.agent.checks()
        wanted = self._wanted()
        self._known = {ident: r for ident, r in wanted.items() if ident in services}
        plan = reconcile(wanted, services, checks, self._owner)
        fresh = {r.id for r in plan.register}
        await self._carry_out(plan)
        await self._pass(r for r in self._known.values() if r.id not in fresh)

    async def _carry_out(self, plan: Plan) -> None:
        """First what is no longer fit, then what is new, then what is gone. Raises ConsulError."""
        now = asyncio.get_running_loop().time()
        self._refused = {r: until for r, until in self._refused.items() if until > now}
        await _all(self._tell(r) for r in plan.tell)
        await _all(self._register(r) for r in plan.register if r not in self._refused)
        await _all(self._deregister(ident) for ident in plan.deregister)
        self._detail |= {"exported": len(self._known), "refused": len(self._refused)}

    async def _register(self, registration: Registration) -> None:
        body = json.dumps(registration.body())
        try:
            await self._client.put("/v1/agent/service/register", body)
        except (RequestError, DeniedError) as error:
            # this one alone: a name that the token may not write, or that the agent does not take
            self._refused[registration] = asyncio.get_running_loop().time() + REFUSED_FOR
            self._known.pop(registration.id, None)
            log.warning("consul: %s is not registered: %s", registration.id, error)
            return
        # a state that only the registration gave would be critical after the agent's restart
        await self._client.agent.check.ttl_pass(registration.alive_check, ALIVE_NOTE)
        await self._tell(registration)

    async def _tell(self, registration: Registration) -> None:
        check = self._client.agent.check
        say = check.ttl_pass if registration.status == "passing" else check.ttl_fail
        await say(registration.health_check, registration.note)
        self._known[registration.id] = registration

    async def _deregister(self, ident: str) -> None:
        await self._client.agent.service.deregister(ident)
        self._known.pop(ident, None)

    async def _take_all_back(self) -> None:
        try:
            async with asyncio.timeout(FAREWELL):
                await _all(self._deregister(ident) for ident in list(self._known))
        except (ConsulError, TimeoutError) as error:
            log.warning("consul: not all registrations were taken back, they will run out: %s", error)

    def _say(self, text: str, level: int = logging.WARNING) -> None:
        """Log what differs from what was said last."""
        if text != self._said:
            self._said = text
            log.log(level, "consul: %s", text)


async def _all(calls: Iterable[Awaitable[object]]) -> None:
    """Make all calls, as many at a time as the client has connections; then raise the first fault."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
