from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from discoverd.config import ServiceConfig
from discoverd.model import Address, Instance, Port, SourceState
from discoverd.sources.static import StaticSource, instances, unique_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from discoverd.model import Network


def service(**values: object) -> ServiceConfig:
    return ServiceConfig.model_validate(values)


@dataclass
class Sink:
    """Keeps what a source says, and wakes whoever waits for its state."""

    objects: dict[str, list[Instance]] = field(default_factory=dict)
    states: list[SourceState] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def publish(self, key: str, instances: Iterable[Instance]) -> None:
        raise AssertionError("a static source says everything at once")

    def replace(self, objects: Mapping[str, Iterable[Instance]]) -> None:
        self.objects = {key: list(members) for key, members in objects.items()}

    def networks(self, networks: Iterable[Network]) -> None:
        raise AssertionError("static services are in no container network")

    def status(self, state: SourceState, error: str | None = None, **detail: int | str) -> None:
        assert error is None
        self.states.append(state)
        self.told.set()


def test_each_address_is_an_instance_of_its_own() -> None:
    web = service(
        name="web",
        scope="shop",
        addresses=["10.0.0.1", "2001:db8::1"],
        port=80,
        ports=["dns=53/udp"],
        tags=["blue"],
        meta={"a": "b"},
        ttl=0,
        weight=7,
    )
    objects = instances([web])
    assert list(objects) == ["web.shop"]
    first, second = objects["web.shop"]
    assert first == Instance(
        id="static/web.shop/10.0.0.1",
        service="web",
        scope="shop",
        source="static",
        addresses=(Address(ip_address("10.0.0.1")),),
        ports=(Port(80), Port(53, "udp", "dns")),
        tags=("blue",),
        meta=(("a", "b"),),
        weight=7,
        ttl=0,
        unique="web-shop-10-0-0-1",
    )
    assert second.id == "static/web.shop/2001:db8::1"
    assert second.unique == "web-shop-20010db8000000000000000000000001"


def test_tables_of_one_service_add_up_and_scopes_do_not() -> None:
    objects = instances(
        [
            service(name="api", addresses=["10.0.0.1"], weight=3),
            service(name="api", addresses=["10.0.0.2"]),
            service(name="api", scope="lab", addresses=["10.0.0.1"]),
        ]
    )
    assert {key: [i.weight for i in members] for key, members in objects.items()} == {
        "api": [3, 1],
        "api.lab": [1],
    }


def test_unique_labels_stay_labels_and_stay_unique() -> None:
    ip = ip_address("10.0.0.1")
    assert unique_label("web", "", ip) == "web-10-0-0-1"
    long = unique_label("w" * 63, "s" * 63, ip)
    assert len(long) == 63
    assert long != unique_label("w" * 63, "s" * 63, ip_address("10.0.0.2"))
    # web-shop without a scope and web in scope shop would have the same name
    objects = instances(
        [
            service(name="web-shop", addresses=["10.0.0.1"]),
            service(name="web", scope="shop", addresses=["10.0.0.1"]),
        ]
    )
    labels = [member.unique for members in objects.values() for member in members]
    assert len(set(labels)) == 2


async def test_services_are_published_once_and_again_when_they_change() -> None:
    sink = Sink()
    source = StaticSource(sink, [service(name="web", addresses=["10.0.0.1"])])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(source.run())
        await sink.told.wait()
        assert list(sink.objects) == ["web"]
        source.reload([service(name="db", addresses=["10.0.0.2"])])
        assert list(sink.objects) == ["db"]
        assert sink.states == [SourceState.LIVE, SourceState.LIVE]
        assert not task.done()
        task.cancel()


@pytest.mark.parametrize("services", [[], [service(name="web", addresses=["10.0.0.1"])]])
async def test_a_source_without_services_is_in_step_too(services: list[ServiceConfig]) -> None:
    sink = Sink()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(StaticSource(sink, services).run())
        await sink.told.wait()
        task.cancel()
    assert sink.states == [SourceState.LIVE]
    assert len(sink.objects) == len(services)
