"""examples/swarm: three tiers deployed to a real swarm, which NGINX follows while they are scaled.

The routing mesh and virtual IPs need IPVS in the kernel, which not every machine has: traffic goes to tasks.
"""

from __future__ import annotations

import re
import subprocess
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.real.conftest import TIMEOUT, or_left_out
from tests.real.debian import REPO, which
from tests.real.images import PYTHON_CHANGES, python_rootfs
from tests.real.place import docker_host, wait
from tests.real.programs import program_image
from tests.real.swarm import PATIENCE, REGISTRY, swarm_of
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.real.place import Place
    from tests.real.session import Session
    from tests.real.swarm import Swarm

pytestmark = [pytest.mark.docker, pytest.mark.timeout(TIMEOUT)]

STACK = REPO / "examples" / "swarm" / "stack.yml"
NGINX = 'CMD mkdir -p /var/log/nginx /var/lib/nginx && exec nginx -g "daemon off; user root;"'
REDIS = 'CMD ["redis-server", "--protected-mode", "no"]'


@pytest.fixture(scope="module")
def place(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Generator[Place]:
    with docker_host(session, tmp_path_factory.mktemp("tiers"), 6) as place:
        yield place


@pytest.fixture(scope="module")
def swarm(place: Place, session: Session, tmp_path_factory: pytest.TempPathFactory) -> Generator[Swarm]:
    engine = place.engine
    with or_left_out():
        made = {
            "NGINX_IMAGE": program_image(engine, "nginx", "nginx-light", NGINX),
            "REDIS_IMAGE": program_image(engine, "redis-server", "redis-server", REDIS),
            "PYTHON_IMAGE": engine.load_image("tiers-python", python_rootfs(), *PYTHON_CHANGES),
        }
    images = {}
    for variable, name in made.items():
        images[variable] = f"{REGISTRY}/{name.partition(':')[0]}:{session.id}"
        engine.docker("tag", name, images[variable])
    pool = f"10.{session.slot}.112.0/20"
    with swarm_of(engine, place.address, pool, tmp_path_factory.mktemp("stack")) as swarm:
        deploy = ("stack", "deploy", "--resolve-image", "never", "--compose-file", str(STACK), "shop")
        subprocess.run(
            [which("docker") or "docker", *deploy],
            env=engine.env | images | {"DISCOVERY_ADDRESS": place.address},
            check=True,
            timeout=PATIENCE,
            capture_output=True,
        )
        try:
            for service, count in {"web": 1, "api": 2, "db": 1}.items():
                swarm.wait_tasks(f"shop_{service}", count)
            yield swarm
        finally:
            swarm.remove("shop")


def visited(place: Place, count: int) -> dict[int, str]:
    """Which visitor each of so many requests was, and who said so. One that fails fails the test."""
    found = {}
    for _ in range(count):
        with urllib.request.urlopen(f"http://{place.address}:8080/", timeout=30) as reply:
            said = re.fullmatch(r"(\w+) has seen number (\d+)\n", reply.read().decode())
            assert said
            found[int(said[2])] = said[1]
    return found


def served(place: Place) -> bool:
    try:
        return bool(visited(place, 1))
    except OSError:
        return False


def test_names(place: Place, swarm: Swarm) -> None:
    virtual = swarm.virtual_ip("shop_api", "shop_default")
    tasks = swarm.addresses("shop_api", "shop_default")
    assert len(tasks) == 2
    for name in ("api.docker", "api.shop.docker", "shop_api.docker"):
        wait(lambda name=name: place.host(name), {virtual}, PATIENCE)  # type: ignore[misc]
    for name in ("tasks.api.docker", "tasks.api.shop.docker"):
        wait(lambda name=name: place.host(name), tasks, PATIENCE)  # type: ignore[misc]
    database = swarm.addresses("shop_db", "shop_default")
    for name in ("db.docker", "db.shop.docker"):
        wait(lambda name=name: place.host(name), database, PATIENCE)  # type: ignore[misc]


def test_traffic_follows_scaling(place: Place, swarm: Swarm) -> None:
    def log() -> str:
        return "\n".join(place.engine.docker("service", "logs", f"shop_{each}") for each in ("web", "api"))

    until(lambda: served(place), timeout=PATIENCE, message=log, interval=0.2)
    (web,) = swarm.containers("shop_web")
    processes = place.engine.docker("top", web, "-eo", "pid")
    numbers = [*visited(place, 1)]
    for count in (2, 3, 1):
        swarm.manager.docker("service", "scale", "--detach", f"shop_api={count}")
        swarm.wait_tasks("shop_api", count)

        def right(count: int = count) -> bool:
            found = visited(place, 12)  # none may fail
            numbers.extend(found)
            running = {each[:12] for each in swarm.containers("shop_api")}
            return len(running) == count and set(found.values()) == running

        until(right, timeout=PATIENCE, message=lambda: f"{visited(place, 12)}\n{log()}", interval=0.2)
        assert len(set(visited(place, 12).values())) == count
    # one redis counted them all, through every tier
    assert numbers == sorted(set(numbers))
    assert place.engine.docker("top", web, "-eo", "pid") == processes, "nobody reloaded NGINX"
