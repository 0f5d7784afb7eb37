"""Docker contexts, made by the real docker client: which engine they mean, and what is said of none."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from discoverd.config import ConfigError, load
from discoverd.config.machine import Machine
from tests.certificates import Authority
from tests.real.conftest import or_left_out
from tests.real.debian import need
from tests.real.test_convergence import addresses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from discoverd.config.models import DockerConfig
    from tests.real.conftest import Containers
    from tests.real.server import Server


class Client:
    """A docker client with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"DOCKER_CONFIG": str(folder / "docker")}
        with or_left_out():
            self._docker = need("docker", "docker.io")

    def __call__(self, *arguments: str) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
        command = [self._docker, "context", *arguments]
        done = subprocess.run(command, env=inherited | self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def engines(self, *flags: str, **more: str) -> tuple[DockerConfig, ...]:
        """What a server in this environment would follow, on a machine with the usual socket."""
        config = load({"docker": flags}, self.env | more, self.folder, Machine(has_docker_socket=True))
        return config.docker


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


def test_which_one_is_meant(client: Client) -> None:
    assert [e.url for e in client.engines()] == ["unix:///var/run/docker.sock"]
    for name, host in (("Lab", "tcp://lab:2375"), ("prod", "ssh://ops@prod")):
        client("create", name, "--docker", f"host={host}")
    assert [e.url for e in client.engines()] == ["unix:///var/run/docker.sock"]
    client("use", "prod")
    assert [(e.url, e.name) for e in client.engines()] == [("ssh://ops@prod", "prod")]
    assert [(e.url, e.name) for e in client.engines(DOCKER_CONTEXT="Lab")] == [("tcp://lab:2375", "lab")]
    assert [e.url for e in client.engines(DOCKER_CONTEXT="default")] == ["unix:///var/run/docker.sock"]
    assert [e.url for e in client.engines(DOCKER_HOST="tcp://h:1")] == ["tcp://h:1"]
    both = client.engines("context:Lab", "context:prod")
    assert [(e.url, e.name) for e in both] == [("tcp://lab:2375", "lab"), ("ssh://ops@prod", "prod")]
    assert client.engines("off") == ()
    client("use", "default")
    client("rm", "prod")
    (client.folder / "docker" / "config.json").write_text('{"currentContext": "prod"}')
    assert [e.url for e in client.engines()] == ["unix:///var/run/docker.sock"], "it is left over"


def test_its_certificates_come_along(client: Client, tmp_path: Path) -> None:
    with or_left_out():
        authority = Authority(tmp_path / "ca")
    pair = authority.sign("client")
    files = f"ca={authority.ca},cert={pair.cert},key={pair.key}"
    client("create", "safe", "--docker", f"host=tcp://lab:2376,{files}")
    client("create", "lax", "--docker", f"host=tcp://lab:2377,{files},skip-tls-verify=true")
    safe, lax = client.engines("context:safe", "context:lax")
    for engine in (safe, lax):
        assert (engine.tls_ca, engine.tls_cert, engine.tls_key) != (None, None, None)
        for path, original in ((engine.tls_ca, authority.ca), (engine.tls_key, pair.key)):
            assert path
            with open(path) as given, open(original) as wanted:  # noqa: PTH123
                assert given.read() == wanted.read()
    assert (safe.tls_verify, lax.tls_verify) == (True, False)


def test_one_that_is_none_is_refused(client: Client) -> None:
    expected = "expected a context that `docker context ls` shows"
    for flags, env, origin in (
        (("context:nobody",), {}, "--docker"),
        ((), {"DOCKER_CONTEXT": "nobody"}, "DOCKER_CONTEXT"),
    ):
        with pytest.raises(ConfigError) as caught:
            client.engines(*flags, **env)
        assert caught.value.line.startswith(origin)
        assert "context:nobody" in caught.value.line
        assert expected in caught.value.line


def test_a_server_follows_it(
    client: Client, containers: Containers, unique: Callable[[str], str], discoverd: Callable[..., Server]
) -> None:
    client("create", "here", "--docker", f"host={containers.engine.url}")
    client("use", "here")
    server = discoverd(env=client.env | {"DISCOVERD_DOCKER": ""})
    assert server.wait_source("live")["name"] == "docker/here"
    name = unique("one")
    server.wait_answer(f"{name}.docker", set(addresses(containers.engine, containers.run(name))))
