"""A real swarm of one node: what its services are called and answered with, whatever happens to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.real.conftest import TIMEOUT
from tests.real.place import docker_host, wait
from tests.real.swarm import PATIENCE, swarm_of
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.real.place import Place
    from tests.real.session import Session
    from tests.real.swarm import Swarm

pytestmark = [pytest.mark.docker, pytest.mark.timeout(TIMEOUT)]

SHOP = """
services:
  api:
    image: IMAGE
    dns: NAMESERVER
    ports: ["18080:8080"]
    deploy: {replicas: 2, labels: {discoverd.tags: gold, discoverd.ports: "http=8080"}}
  db:
    image: IMAGE
    networks: {default: {aliases: [database]}, back: {}}
    ports: [{target: 5432, published: 15432, mode: host}]
    deploy: {replicas: 1, endpoint_mode: dnsrr}
  pool:
    image: IMAGE
    hostname: pooled
    deploy: {replicas: 2, endpoint_mode: dnsrr, update_config: {parallelism: 1, delay: 1s}}
networks: {back: {}}
"""
BLOG = """
services:
  db: {image: IMAGE, dns: NAMESERVER, deploy: {endpoint_mode: dnsrr}}
"""
TASKS = {"shop_api": 2, "shop_db": 1, "shop_pool": 2, "blog_db": 1}


@pytest.fixture(scope="module")
def place(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Generator[Place]:
    with docker_host(session, tmp_path_factory.mktemp("swarm"), 6) as place:
        yield place


@pytest.fixture(scope="module")
def swarm(place: Place, session: Session, tmp_path_factory: pytest.TempPathFactory) -> Generator[Swarm]:
    """The stacks ``shop`` and ``blog``, after discoverd has seen the engine without a swarm."""
    pool = f"10.{session.slot}.112.0/20"
    with swarm_of(place.engine, place.address, pool, tmp_path_factory.mktemp("stacks")) as swarm:
        swarm.deploy("shop", SHOP.replace("NAMESERVER", place.address))
        swarm.deploy("blog", BLOG.replace("NAMESERVER", place.address))
        for service, count in TASKS.items():
            swarm.wait_tasks(service, count)
        yield swarm


def settled(place: Place, swarm: Swarm, name: str, service: str, network: str = "shop_default") -> set[str]:
    """Wait until ``name`` is exactly the service's tasks; their addresses."""

    def right() -> bool:
        return place.host(name).addresses == swarm.addresses(service, network)

    until(
        right,
        timeout=PATIENCE,
        message=lambda: f"{swarm.addresses(service, network)}: {place.host(name).text}",
    )
    return swarm.addresses(service, network)


def test_names(place: Place, swarm: Swarm) -> None:
    virtual, tasks = swarm.virtual_ip("shop_api", "shop_default"), swarm.addresses("shop_api", "shop_default")
    assert len(tasks) == 2
    for name in (
        *("api.docker", "api.shop.docker", "shop_api.docker", "api.shop_default.docker", "gold.api.docker"),
        "api",
    ):
        wait(lambda name=name: place.host(name), {virtual}, PATIENCE)  # type: ignore[misc]
    for name in (
        *(
            "tasks.api.docker",
            "tasks.api.shop.docker",
            "tasks.shop_api.docker",
            "tasks.api.shop_default.docker",
        ),
        *("all.api.docker", "tasks.api"),
    ):
        wait(lambda name=name: place.host(name), tasks, PATIENCE)  # type: ignore[misc]
    # each task once, though it is known by its container and from the manager
    assert len(place.host("tasks.api.docker", "SRV").answer) == 2
    one = next(t for t in swarm.tasks("shop_api") if t["Slot"] == 1)
    (container,) = swarm.manager.inspect(one["Status"]["ContainerStatus"]["ContainerID"])
    address = container["NetworkSettings"]["Networks"]["shop_default"]["IPAddress"]
    for name in (
        "1.api.shop.docker",
        f"{container['Name'].strip('/')}.docker",
        f"{container['Id'][:12]}.docker",
    ):
        assert place.host(name).addresses == {address}
    # without a virtual IP a service is its tasks, under all of its names
    pool = settled(place, swarm, "pool.docker", "shop_pool")
    assert len(pool) == 2
    for name in ("pool.shop.docker", "shop_pool.docker", "tasks.pool.docker", "pooled.docker"):
        assert place.host(name).addresses == pool
    database = swarm.addresses("shop_db", "shop_default")
    for name in ("db.shop.docker", "database.docker", "database.shop.docker", "shop_db.docker"):
        wait(lambda name=name: place.host(name), database, PATIENCE)  # type: ignore[misc]
    assert place.host("db.shop_back.docker").addresses == swarm.addresses("shop_db", "shop_back")
    backwards = ".".join(reversed(virtual.split(".")))
    assert place.host(f"{backwards}.in-addr.arpa", "PTR").data[0] == "shop_api.docker."


def test_stacks_never_mix(place: Place, swarm: Swarm) -> None:
    shop, blog = swarm.addresses("shop_db", "shop_default"), swarm.addresses("blog_db", "blog_default")
    wait(lambda: place.host("db.docker"), shop | blog, PATIENCE)
    # a task asks from its address on the gateway bridge, which is on no network of its stack
    (asker,) = swarm.containers("blog_db")
    wait(lambda: place.inside(asker, "db.docker", server=place.address), blog, PATIENCE)
    # and the same through Docker's own resolver
    wait(lambda: place.inside(asker, "database.docker"), shop, PATIENCE)
    wait(lambda: place.inside(asker, "db.docker"), blog, PATIENCE)
    wait(lambda: place.inside(swarm.containers("shop_api")[0], "db.docker"), shop, PATIENCE)


def test_from_the_lan(place: Place, swarm: Swarm) -> None:
    server = place.serve(listen=":5354", config=f'host_address = "{place.address}"')
    try:
        wait(lambda: place.lan("api.shop.docker", port=5354), {place.address}, PATIENCE)
        said = place.lan("_http._tcp.api.docker", "SRV", port=5354)
        assert [data.split()[2] for data in said.data] == ["18080"]  # the routing mesh
        said = place.lan("db.shop.docker", "SRV", port=5354)
        assert [data.split()[2] for data in said.data] == ["15432"]  # this node's own
        assert place.lan("pool.docker", port=5354).addresses == set()
    finally:
        server.close()


def test_scale(place: Place, swarm: Swarm) -> None:
    virtual = swarm.virtual_ip("shop_api", "shop_default")
    for count in (3, 1):
        swarm.manager.docker("service", "scale", "--detach", f"shop_api={count}", f"shop_pool={count}")
        for name in ("api", "pool"):
            swarm.wait_tasks(f"shop_{name}", count)
            assert len(settled(place, swarm, f"tasks.{name}.docker", f"shop_{name}")) == count
        wait(lambda: place.host("api.docker"), {virtual}, PATIENCE)
    swarm.manager.docker("service", "scale", "--detach", "shop_api=0", "shop_pool=0")
    for name in ("api.docker", "tasks.api.docker", "pool.docker", "tasks.pool.docker", "shop_pool.docker"):
        # no data, for a second: never NXDOMAIN, since it will be back
        wait(lambda name=name: place.host(name), set(), PATIENCE)  # type: ignore[misc]
        assert [record.ttl for record in place.host(name).authority] == [1]
    swarm.manager.docker("service", "scale", "--detach", "shop_api=2", "shop_pool=2")
    for name in ("api", "pool"):
        swarm.wait_tasks(f"shop_{name}", 2)
        assert len(settled(place, swarm, f"tasks.{name}.docker", f"shop_{name}")) == 2
    wait(lambda: place.host("api.docker"), {virtual}, PATIENCE)


def test_rolling_update(place: Place, swarm: Swarm) -> None:
    before = settled(place, swarm, "pool.docker", "shop_pool")
    swarm.manager.docker("service", "update", "--detach", "--force", "shop_pool")
    answers: list[set[str]] = []

    def replaced() -> bool:
        answers.append(place.host("pool.docker").addresses)
        now = swarm.addresses("shop_pool", "shop_default")
        return len(now) == 2 and now.isdisjoint(before) and answers[-1] == now

    until(replaced, timeout=PATIENCE, message=lambda: f"{before} -> {answers[-1]}")
    assert all(answers), "while one was replaced, the other one answered"


def test_a_task_dies(place: Place, swarm: Swarm) -> None:
    before = settled(place, swarm, "pool.docker", "shop_pool")
    victim = swarm.containers("shop_pool")[0]
    (said,) = swarm.manager.inspect(victim)
    lost = said["NetworkSettings"]["Networks"]["shop_default"]["IPAddress"]
    swarm.manager.docker("kill", victim)
    until(lambda: lost not in place.host("pool.docker").addresses, message="the dead one is gone")
    until(lambda: len(swarm.addresses("shop_pool", "shop_default") - {lost}) == 2, timeout=PATIENCE)
    assert settled(place, swarm, "pool.docker", "shop_pool") != before


def test_a_node_is_drained(place: Place, swarm: Swarm) -> None:
    node = swarm.manager.docker("node", "ls", "--quiet")
    swarm.manager.docker("node", "update", "--availability", "drain", node)
    for name in ("api.docker", "pool.docker", "db.docker"):
        wait(lambda name=name: place.host(name), set(), PATIENCE)  # type: ignore[misc]
    swarm.manager.docker("node", "update", "--availability", "active", node)
    wait(lambda: place.host("api.docker"), {swarm.virtual_ip("shop_api", "shop_default")}, PATIENCE)
    for service, count in TASKS.items():
        swarm.wait_tasks(service, count)
    settled(place, swarm, "pool.docker", "shop_pool")


def test_a_service_is_removed_and_its_labels_change(place: Place, swarm: Swarm) -> None:
    swarm.manager.docker("service", "update", "--detach", "--label-add", "discoverd.tags=silver", "shop_api")
    wait(lambda: place.host("silver.api.docker"), {swarm.virtual_ip("shop_api", "shop_default")}, PATIENCE)
    assert place.host("gold.api.docker").addresses == set()
    swarm.manager.docker("service", "rm", "blog_db")
    shop = swarm.addresses("shop_db", "shop_default")
    wait(lambda: place.host("db.docker"), shop, PATIENCE)
