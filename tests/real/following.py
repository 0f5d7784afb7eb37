"""The Consul source on its own, in the test's event loop: what it publishes, and what it says of itself."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from discoverd.catalog import Catalog
from discoverd.registry import Registry
from discoverd.sources.consul import HOME, ConsulSettings, ConsulSource, source_name
from discoverd.supervise import spawn
from tests.wait import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from discoverd.model import Instance, SourceStatus
    from tests.real.consul import ConsulAgent
    from tests.real.rest import Response


class Followed:
    """What a source made of its agents so far."""

    def __init__(self, settings: ConsulSettings) -> None:
        self.registry, self.catalog = Registry(), Catalog()
        sinks = {dc: self.registry.writer(source_name(dc), "consul") for dc in settings.datacenters}
        self.source = ConsulSource(settings, sinks, self.catalog)

    def status(self, name: str = "consul") -> SourceStatus:
        return self.registry.status(name)

    def instances(self, service: str) -> list[Instance]:
        """The instances of a service, by id."""
        return sorted((i for i in self.registry.instances() if i.service == service), key=lambda i: i.id)

    def addresses(self, service: str) -> set[str]:
        return {f"{a.ip}" for i in self.instances(service) for a in i.addresses}

    async def until(self, condition: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:  # noqa: ASYNC109
        """Wait until it is so; else say what is known."""

        def otherwise() -> str:
            known = [(i.id, i.health.value, i.state.value) for i in self.registry.instances()][:30]
            return f"{what}; known: {known}, {self.registry.statuses()}"

        return await until_async(condition, timeout=timeout, message=otherwise)

    async def state(self, wanted: str, name: str = "consul", timeout: float = 30.0) -> SourceStatus:  # noqa: ASYNC109
        """Until the source is in a state; its status then."""
        await self.until(lambda: self.status(name).state == wanted, f"{name} is {wanted}", timeout)
        return self.status(name)


@asynccontextmanager
async def following(agent: ConsulAgent | str, **settings: Any) -> AsyncIterator[Followed]:
    """A source that follows an agent, until the end of the block."""
    url = agent if isinstance(agent, str) else agent.url
    followed = Followed(ConsulSettings(url=url, datacenters=settings.pop("datacenters", (HOME,)), **settings))
    async with asyncio.TaskGroup() as group:
        task = spawn(group, "consul", followed.source.run())
        try:
            yield followed
        finally:
            task.cancel()


async def ask(agent: ConsulAgent, path: str, method: str = "PUT", body: object = None) -> Response:
    """The agent's API without holding up the source."""
    reply = await asyncio.to_thread(agent.api, path, method, body)
    assert reply.status == 200, f"{method} {path}: {reply.status} {reply.text}"
    return reply


async def register(agent: ConsulAgent, name: str, **service: Any) -> None:
    """A service of the agent's own; ``check`` is the state of a TTL check that it gets."""
    check = service.pop("check", None)
    body: dict[str, Any] = {"ID": service.get("ID", name), "Name": name, **service}
    if check:
        body["Check"] = {"CheckID": f"check-{body['ID']}", "TTL": "1h", "Status": check}
    await ask(agent, "/v1/agent/service/register?replace-existing-checks=true", body=body)


async def deregister(agent: ConsulAgent, ident: str) -> None:
    await ask(agent, f"/v1/agent/service/deregister/{ident}")
