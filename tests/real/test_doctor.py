"""doctor beside a real engine and a real agent: what it says while they are well, and once they are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.real.debian import REPO
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.consul import ConsulAgent
    from tests.real.engine import HostedEngine
    from tests.real.server import Server


def doctor(server: Server, *flags: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Its exit status, and what it found by what it looked at."""
    ours = ("DISCOVERD_", "DOCKER_", "CONSUL_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "-m", "discoverd", "doctor", "--json", "--upstream", "off", *flags],
        env=env | {"PYTHONPATH": str(REPO), "DISCOVERD_URL": server.url},
        cwd=server.log.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, {found["check"]: found for found in json.loads(done.stdout)}


def test_an_engine_and_its_containers(own_engine: HostedEngine, discoverd: Callable[..., Server]) -> None:
    own_engine.run("asks", "--dns", "192.0.2.53")
    own_engine.run("lost")
    server = discoverd(docker=own_engine)
    server.wait_source("live")
    path = own_engine.url.removeprefix("unix://")
    flags = ("--docker", own_engine.url, "--listen", "192.0.2.53:53")

    status, found = doctor(server, *flags)
    assert found[f"docker {path}"]["verdict"] == "ok"
    assert found[f"docker {path}"]["found"].startswith("Docker Engine ")
    assert found["source docker/local"]["found"] == "live, 2 instances"
    assert found["containers"]["verdict"] == "warning"
    assert found["containers"]["found"].startswith("lost do not name discoverd")
    assert "dns: [ADDRESS]" in found["containers"]["mend"]
    assert status == 0, "a warning is no problem"

    own_engine.docker("rm", "--force", "lost")
    status, found = doctor(server, *flags)
    assert found["containers"]["verdict"] == "ok"

    own_engine.kill()
    server.wait_source("stale")
    status, found = doctor(server, *flags)
    assert status == 1
    assert found["source docker/local"]["verdict"] == "warning"
    assert found["source docker/local"]["found"].startswith("stale: ")
    assert found[f"docker {path}"]["verdict"] == "problem"
    assert found[f"docker {path}"]["mend"]


def test_an_agent(consul_agent: ConsulAgent, discoverd: Callable[..., Server]) -> None:
    server = discoverd("--consul", consul_agent.url)
    server.wait_source("live", "consul")
    flags = ("--docker", "off", "--consul", consul_agent.url)
    status, found = doctor(server, *flags)
    assert (status, found[f"consul {consul_agent.url}"]["verdict"]) == (0, "ok")
    assert found["source consul"]["verdict"] == "ok"
    consul_agent.kill()
    server.wait_source("stale", "consul")
    status, found = doctor(server, *flags)
    assert status == 1
    assert found[f"consul {consul_agent.url}"]["found"] == "no agent answers there"
    until(lambda: doctor(server, *flags)[1]["source consul"]["verdict"] == "warning")
