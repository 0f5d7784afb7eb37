"""The README's commands, run as they stand there: only addresses and ports give way."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.readme import REPO, block
from tests.real.compose import socket_of
from tests.real.confined import Confined
from tests.real.conftest import or_left_out
from tests.real.debian import need
from tests.real.images import bases, provide
from tests.real.recipes import run_in_a_container
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.real.compose import Compose
    from tests.real.conftest import Containers
    from tests.real.engine import Engine, HostedEngine
    from tests.real.server import Server
    from tests.real.session import Session

LISTENING = re.compile(r"listening on (dns|http)://127\.0\.0\.1:(\d+)")


@pytest.fixture
def made_run(tmp_path: Path) -> Generator[dict[str, str]]:
    """``make run`` as it stands in the README, on free ports; the ports, by ``dns`` and ``http``."""
    (command,) = block("sh", "make run").commands
    log = tmp_path / "log"
    arguments = "--listen 127.0.0.1:0 --http 127.0.0.1:0 --docker off --state-dir off"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*shlex.split(command), f"ARGS={arguments}"],
            cwd=REPO,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        until(
            lambda: len(LISTENING.findall(log.read_text())) == 2 or process.poll() is not None,
            timeout=240,  # it installs what is not there yet
            message=lambda: f"make run listens:\n{log.read_text()}",
        )
        yield dict(LISTENING.findall(log.read_text()))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.mark.timeout(300)
def test_make_run_and_the_questions_after_it(made_run: dict[str, str]) -> None:
    answers = []
    with or_left_out():
        need("dig", "bind9-dnsutils")
        need("curl", "curl")
    for command in block("sh", "dig @127.0.0.1 -p 1053 web.docker").commands:
        here = command.replace("1053", made_run["dns"]).replace("8053", made_run["http"])
        done = subprocess.run(shlex.split(here), capture_output=True, text=True, check=True, timeout=30)
        answers.append(done.stdout)
    web, db, srv, explained = answers
    assert set(re.findall(r"\tA\t(\S+)", web)) == {"192.0.2.11", "192.0.2.12", "192.0.2.13"}
    assert set(re.findall(r"\tA\t(\S+)", db)) == {"192.0.2.21"}
    assert len(re.findall(r"\tSRV\t0 \d+ 8080 ", srv)) == 3
    assert "192.0.2.11" in json.dumps(json.loads(explained))
    doctor, explain = block("sh", "discoverd doctor").commands
    assert "server" in asked(made_run, doctor, "--docker off --upstream off")
    assert "web.docker A, asked by 172.18.0.3" in asked(made_run, explain)


def asked(made_run: dict[str, str], command: str, more: str = "") -> str:
    """What a command says of that server; its status is its own business."""
    words = [str(REPO / ".venv" / "bin" / "discoverd"), *shlex.split(f"{command} {more}")[1:]]
    env = os.environ | {"DISCOVERD_URL": f"http://127.0.0.1:{made_run['http']}"}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def test_compose_example(engine: Engine, compose: Compose, unique: Callable[[str], str]) -> None:
    """The shipped files with their own names and addresses: a client resolves another project's service."""
    if taken := engine.docker(
        "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=discovery"
    ):
        pytest.skip(f"a project called discovery is there already: {taken}")
    up, up_shop, ask = block("sh", "docker compose -f compose.example.yml up").commands
    assert up == "docker compose -f compose.example.yml up --build --detach"
    assert up_shop == "docker compose -f examples/shop.yml up --detach"
    *_, python, flag, program = shlex.split(ask)
    with or_left_out():
        provide(engine, *bases((REPO / "Dockerfile").read_text()))
    compose.up("discovery", REPO / "compose.example.yml", "--build", env=socket_of(engine))
    compose.up("shop", REPO / "examples" / "shop.yml")
    (server,) = compose.containers("discovery", "discoverd")
    # The right to join the socket's group was used and given up.
    assert Confined.of(engine, server) == Confined("0" * 16, f"{1 << 6:016x}", False, True, True)

    def addresses(project: str, service: str, name: str) -> set[str]:
        asked = program.replace("web.shop.docker", name)
        said = compose.run(project, "exec", "-T", service, python, flag, asked, check=False)
        return set(re.findall(r"\d+\.\d+\.\d+\.\d+", said))

    shop = {address_of(engine, container, "discovery") for container in compose.containers("shop", "web")}
    assert len(shop) == 2
    until(
        lambda: addresses("discovery", "client", "web.shop.docker") == shop,
        message=lambda: f"the client finds web.shop.docker: {compose.run('discovery', 'logs', 'discoverd')}",
    )
    assert addresses("discovery", "client", "web") == shop

    # The service that the README adds, a project of its own, finds the shop as well and is found
    compose.up("mine", block("yaml", "services:").text)
    assert addresses("mine", "api", "web.shop.docker") == shop
    (mine,) = compose.containers("mine", "api")
    own = {address_of(engine, mine, "discovery")}
    until(
        lambda: addresses("discovery", "client", "api.mine.docker") == own,
        message="the client finds api.mine.docker",
    )

    # The image is there now, so the recipe that begins with it is run here
    run_in_a_container(engine, unique)


@pytest.mark.skipif(os.geteuid() != 0, reason="port 53 of a bridge is root's")
def test_a_bridge_address(
    engine: Engine, containers: Containers, discoverd: Callable[..., Server], unique: Callable[[str], str]
) -> None:
    serve, run = block("sh", "discoverd serve --listen 172.17.0.1:53").commands
    written = serve.split()[-1].removesuffix(":53")
    assert run == f"docker run --dns {written} ..."
    gateway = engine.docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
    server = discoverd(docker=engine, listen=f"{gateway}:53")
    name = unique("bridged")
    containers.run(name, "--dns", gateway)
    own = address_of(engine, name, "bridge")
    until(
        lambda: own in engine.docker("exec", name, "nslookup", f"{name}.docker", check=False),
        message=lambda: f"a container with --dns {gateway} finds itself; the log:\n{server.log_text}",
    )


def test_daemon_json(
    session: Session,
    engine_host: Callable[..., HostedEngine],
    discoverd: Callable[..., Server],
    tmp_path: Path,
) -> None:
    settings = json.loads(block("json", '{ "dns"').text)
    assert list(settings) == ["dns"]
    with or_left_out():
        address = f"10.{session.slot}.1.1"  # this machine, as the run's first Docker host reaches it
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps({"dns": [address]}))
    engine = engine_host("", 1, "--config-file", str(path))
    server = discoverd(docker=engine, listen=f"{address}:53")
    engine.run("plain")
    own = address_of(engine, "plain", "bridge")
    until(
        lambda: own in engine.docker("exec", "plain", "nslookup", "plain.docker", check=False),
        message=lambda: f"a container of an engine with that finds itself; the log:\n{server.log_text}",
    )


def address_of(engine: Engine, container: str, network: str) -> str:
    """A container's IPv4 address on a network."""
    template = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return engine.docker("inspect", "--format", template, container)
