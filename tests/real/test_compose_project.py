"""A Compose project on a real engine, asked about with the real dig: the answers are the engine's truth.

What is expected is asked from the engine itself each time, never remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.compose import Compose
    from tests.real.conftest import Containers
    from tests.real.engine import Engine
    from tests.real.server import Server

FILE = """
services:
  web: {{image: "{image}"}}
  db: {{image: "{image}"}}
"""


@dataclass
class Shop:
    """The project ``name`` with three ``web`` and one ``db``, and a discoverd that watches its engine."""

    name: str
    compose: Compose
    server: Server

    @property
    def engine(self) -> Engine:
        return self.compose.engine

    def inspect(self, service: str) -> list[dict[str, Any]]:
        """A service's running containers in the order of their numbers."""
        found = self.engine.inspect(*self.compose.containers(self.name, service))
        return sorted(
            (each for each in found if each["State"]["Status"] == "running"),
            key=lambda each: int(each["Config"]["Labels"]["com.docker.compose.container-number"]),
        )

    def addresses(self, service: str) -> set[str]:
        """What the host is to be given: addresses on the project's own network, else on the first by name."""
        return {
            address for each in self.inspect(service) if (address := preferred(each, f"{self.name}_default"))
        }

    def container(self, number: int) -> str:
        return f"{self.name}-web-{number}"

    def follows(self, count: int) -> None:
        """The answers come to be the ``count`` containers that the engine has running as ``web``."""
        truth = self.addresses("web")
        assert len(truth) == count
        for name in ("web.docker", f"web.{self.name}.docker"):
            self.server.wait_answer(name, truth)


def preferred(container: dict[str, Any], network: str) -> str:
    networks = {name: each["IPAddress"] for name, each in container["NetworkSettings"]["Networks"].items()}
    return networks.get(network) or next((networks[name] for name in sorted(networks)), "")


@pytest.fixture
def shop(compose: Compose, unique: Callable[[str], str], discoverd: Callable[..., Server]) -> Shop:
    name = unique("shop")
    compose.up(name, FILE.format(image=compose.engine.image), "--scale", "web=3")
    server = discoverd(docker=compose.engine)
    server.wait_source("live")
    return Shop(name, compose, server)


def test_every_name_has_its_containers(shop: Shop) -> None:
    web = shop.addresses("web")
    assert len(web) == 3
    expected = {
        "web.docker": web,
        f"web.{shop.name}.docker": web,
        f"db.{shop.name}.docker": shop.addresses("db"),
    }
    expected["db.docker"] = shop.addresses("db")
    for number, container in enumerate(shop.inspect("web"), 1):
        own = {preferred(container, f"{shop.name}_default")}
        assert container["Name"] == f"/{shop.container(number)}"
        expected[f"{number}.web.{shop.name}.docker"] = own
        expected[f"{shop.container(number)}.docker"] = own
        expected[f"{shop.name}_web_{number}.docker"] = own
        expected[f"{container['Id'][:12]}.docker"] = own

    for name, addresses in expected.items():
        for option in ("+notcp", "+tcp"):
            reply = shop.server.dig(name, "A", option)
            assert (reply.status, reply.addresses) == ("NOERROR", addresses), f"{name} {option}\n{reply.text}"
            assert {record.ttl for record in reply.answer} == {5}
            assert "aa" in reply.flags
        assert shop.server.dig(name, "AAAA").nodata, f"{name} AAAA"
    for name in (f"no-such-{shop.name}.docker", f"4.web.{shop.name}.docker", f"cache.{shop.name}.docker"):
        reply = shop.server.dig(name)
        assert reply.nxdomain, reply.text


@pytest.mark.parametrize("name", ["web.docker", "web.{project}.docker"])
def test_successive_queries_put_each_first_once(shop: Shop, name: str) -> None:
    name = name.format(project=shop.name)
    for _ in range(2):
        replies = [shop.server.dig(name) for _ in range(3)]
        assert {reply.data[0] for reply in replies} == shop.addresses("web")
        assert all(reply.addresses == shop.addresses("web") for reply in replies)


def test_scaling_is_followed(shop: Shop) -> None:
    for count in (5, 1, 2):
        shop.compose.scale(shop.name, web=count)
        shop.follows(count)
        last = shop.inspect("web")[-1]
        shop.server.wait_answer(f"{count}.web.{shop.name}.docker", {preferred(last, f"{shop.name}_default")})
    # Names that had a container a moment ago: an NXDOMAIN would live on in a cache when it comes back.
    assert shop.server.dig(f"5.web.{shop.name}.docker").nodata
    assert shop.server.dig(f"{shop.container(5)}.docker").nodata


def test_kill_pause_and_restart_are_followed(shop: Shop) -> None:
    engine = shop.engine
    shop.follows(3)
    engine.docker("kill", "--signal", "USR1", shop.container(1))  # idle lives on with it
    shop.follows(3)
    engine.docker("kill", shop.container(1))
    shop.follows(2)
    engine.docker("pause", shop.container(2))
    shop.follows(1)
    engine.docker("start", shop.container(1))
    shop.follows(2)
    engine.docker("unpause", shop.container(2))
    shop.follows(3)
    engine.docker("restart", "--time", "1", shop.container(3))
    shop.follows(3)
    engine.docker("stop", shop.container(1), shop.container(2), shop.container(3))
    shop.server.wait_answer("web.docker", set())
    for name in ("web.docker", f"web.{shop.name}.docker", f"{shop.container(1)}.docker"):
        reply = shop.server.dig(name)
        assert reply.nodata, reply.text
    engine.docker("start", shop.container(3))
    shop.follows(1)


def test_rename_is_followed(shop: Shop, unique: Callable[[str], str]) -> None:
    new = unique("renamed")
    (truth,) = (preferred(each, f"{shop.name}_default") for each in shop.inspect("web")[1:2])
    shop.engine.docker("rename", shop.container(2), new)
    shop.server.wait_answer(f"{new}.docker", {truth})
    shop.server.wait_answer(f"{shop.container(2)}.docker", set())
    shop.server.wait_answer(f"2.web.{shop.name}.docker", {truth})
    shop.follows(3)


def test_networks_are_followed(shop: Shop, containers: Containers, unique: Callable[[str], str]) -> None:
    # An alias is not in the event that says "connected": it has to be looked up.
    edge, alias = unique("edge"), unique("www")
    containers.network(edge)
    one, default = shop.container(1), f"{shop.name}_default"
    shop.engine.docker("network", "connect", "--alias", alias, edge, one)
    (there,) = (each["NetworkSettings"]["Networks"][edge]["IPAddress"] for each in shop.engine.inspect(one))
    shop.server.wait_answer(f"web.{edge}.docker", {there})
    shop.follows(3)
    assert shop.server.dig(f"{alias}.docker").addresses == {
        preferred(each, default) for each in shop.engine.inspect(one)
    }

    shop.engine.docker("network", "disconnect", default, one)
    assert there in shop.addresses("web"), "edge is all that it has left"
    shop.follows(3)
    shop.engine.docker("network", "disconnect", edge, one)
    shop.follows(2)
    shop.server.wait_answer(f"web.{edge}.docker", set())
    shop.engine.docker("network", "connect", default, one)
    shop.follows(3)


def test_down_and_up_again(shop: Shop) -> None:
    shop.compose.run(shop.name, "down", "--timeout", "1")
    shop.server.wait_answer(f"web.{shop.name}.docker", set())
    assert shop.server.dig(f"web.{shop.name}.docker").nodata
    shop.compose.run(shop.name, "up", "--detach", "--scale", "web=2")
    shop.follows(2)
