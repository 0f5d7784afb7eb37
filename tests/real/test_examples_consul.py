"""examples/consul: two hosts with the shipped files, and the commands of the README on each."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.real import engine as engines
from tests.real.compose import Compose
from tests.real.conftest import TIMEOUT, or_left_out
from tests.real.consul import ConsulCluster, Spot
from tests.real.debian import REPO
from tests.real.lan import Lan
from tests.real.place import Place, wait
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.real.consul import ConsulAgent
    from tests.real.session import Session

pytestmark = [pytest.mark.docker, pytest.mark.consul, pytest.mark.timeout(TIMEOUT)]

EXAMPLE = REPO / "examples" / "consul"
#: Where a test has its own: addresses and folders.
PLACES = {"bind_addr", "data_dir", "retry_join"}
#: Seconds until Consul has told everybody.
PATIENCE = 90.0


@dataclass
class Host:
    """One of the two, with its Compose project. ``address`` is what the README writes as 192.168.1.1x."""

    place: Place
    compose: Compose
    address: str

    def up(self, service: str) -> None:
        environment = {
            "BUSYBOX_IMAGE": self.place.engine.image,
            "DISCOVERY_ADDRESS": self.place.gateway("bridge"),
        }
        self.compose.up("apart", EXAMPLE / "compose.yml", service, env=environment)


def shipped(file: str, agent: ConsulAgent) -> None:
    """Have an agent run with what a shipped file says, but for its places."""
    said = json.loads((EXAMPLE / file).read_text())
    agent.config |= {key: value for key, value in said.items() if key not in PLACES}


@pytest.fixture
def hosts(session: Session, tmp_path: Path) -> Generator[tuple[Host, Host]]:
    with ExitStack() as stack:
        with or_left_out():
            lan = Lan(session, 6)
        stack.callback(lan.close)
        places: list[Place] = []
        spots: dict[str, Spot] = {}
        for name, number in (("a", 4), ("b", 5)):
            with or_left_out():
                engine = engines.another(session, f"apart-{name}", number)
            stack.callback(engine.close)
            place = Place(engine, tmp_path / name, stack)
            assert place.daemon.namespace
            with or_left_out():
                spots[name] = Spot(lan.join(place.daemon.namespace), place.address, place.enter)
            places.append(place)
        with or_left_out():
            cluster = ConsulCluster(tmp_path / "consul", Spot(lan.address, lan.reach, lan.enter), spots)
        stack.callback(cluster.close)
        for server in cluster.servers:
            shipped("server.json", server)
        for client in cluster.clients:
            shipped("agent.json", client)
        cluster.start()
        made = []
        written = (EXAMPLE / "discoverd.toml").read_text()
        _, _, table = written.partition('url = "unix:///var/run/docker.sock"\n')
        assert table.startswith('host_address = "192.168.1.10"')
        for place, agent, spot in zip(places, cluster.clients, spots.values(), strict=True):
            config = table.replace("192.168.1.10", spot.address).replace(":8500", f":{agent.http_port}")
            place.serve(config=config)
            compose = Compose(place.engine, tmp_path)
            stack.callback(compose.close)
            made.append(Host(place, compose, spot.address))
        yield made[0], made[1]


def test_the_readme(hosts: tuple[Host, Host]) -> None:
    here, there = hosts  # 192.168.1.10 and .11
    text = (EXAMPLE / "README.md").read_text()
    there.up("web")
    here.up("client")
    (ask,) = re.findall(r"^docker compose (exec .*?) *# on", text, re.MULTILINE)
    service, *command = shlex.split(ask)[1:]

    def said() -> str:
        return here.compose.run("apart", "exec", "-T", service, *command, check=False)

    until(lambda: said() == "hello from the other host", timeout=PATIENCE, message=said)
    (address, record) = re.findall(r"^dig @172\.17\.0\.1 (.*?) *# on", text, re.MULTILINE)
    gateway = here.place.gateway("bridge")
    wait(lambda: here.place.host(*address.split(), server=gateway), {there.address}, PATIENCE)
    assert [data.split()[2] for data in here.place.host(*record.split(), server=gateway).data] == ["8080"]
    # at home it is the container, once
    wait(lambda: there.place.host("web.docker"), {there.place.ip("apart-web-1", "apart_default")}, PATIENCE)
    there.compose.run("apart", "stop", "--timeout", "1", "web")
    for host in hosts:
        wait(lambda host=host: host.place.host("web.docker"), set(), PATIENCE)  # type: ignore[misc]
    wait_gone = here.place.host("web.service.consul", server=gateway)
    assert wait_gone.addresses == set()
