"""Real Consul agents: the last free version that Debian had, as a dev agent or a cluster."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.real.debian import fetch
from tests.real.rest import Response, request
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SUITE = "bullseye"
#: Below the range that the kernel hands out to clients, so that no connection takes one in between.
PORTS = range(20000, 32000)
START_TIMEOUT = 60.0
#: Given to agents that may not have bound them yet.
_given: set[int] = set()


def binary() -> Path:
    """Consul 1.8.7. Raises UnavailableError where it cannot be fetched."""
    return fetch("consul", SUITE) / "usr/bin/consul"


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has now, neither on TCP nor on UDP."""
    found: list[int] = []
    for port in random.sample(sorted(set(PORTS) - _given), len(PORTS) - len(_given)):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            _given.update(found)
            return found
    raise AssertionError("no free ports on 127.0.0.1")


@dataclass(frozen=True)
class Spot:
    """Where an agent stands: ``address`` is its own there, ``reach`` the one that this machine reaches it
    at, ``enter`` what to put before its command.
    """

    address: str = "127.0.0.1"
    reach: str = "127.0.0.1"
    enter: tuple[str, ...] = ()


LOOPBACK = Spot()


class ConsulAgent:
    """One agent with ports of its own. ``folder`` holds its configuration, data and log."""

    def __init__(
        self,
        folder: Path,
        name: str,
        config: dict[str, Any] | None = None,
        *,
        dev: bool = False,
        spot: Spot = LOOPBACK,
    ) -> None:
        """``config`` is Consul's agent configuration, laid over what makes it private and quick."""
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self._spot = name, spot
        self.log = folder / "log"
        server, serf_lan, serf_wan, self.http_port, self.dns_port = free_ports(5)
        ports = {"server": server, "serf_lan": serf_lan, "serf_wan": serf_wan, "http": self.http_port}
        self.config: dict[str, Any] = {
            "node_name": name,
            "datacenter": "dc1",
            "bind_addr": spot.address,
            "client_addr": "127.0.0.1" if spot == LOOPBACK else "0.0.0.0",
            "ports": ports | {"dns": self.dns_port, "grpc": -1},
            "disable_update_check": True,
            "leave_on_terminate": False,
        } | (config or {})
        if not dev:
            self.config["data_dir"] = str(folder / "data")
        self._file = folder / "config.json"
        command = [str(binary()), "agent", *(["-dev"] if dev else []), "-config-file", str(self._file)]
        self._command = [*spot.enter, *command]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where this machine reaches its HTTP API."""
        return f"http://{self._spot.reach}:{self.http_port}"

    def at(self, port: str) -> str:
        """Where others of its cluster reach one of its ports, by the port's name."""
        return f"{self._spot.address}:{self.config['ports'][port]}"

    @property
    def pid(self) -> int:
        assert self._process, "the agent was never started"
        return self._process.pid

    @property
    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def api(self, path: str, method: str = "GET", body: object = None) -> Response:
        """Ask its HTTP API; OSError while it does not run."""
        return request(method, self.url + path, body)

    def launch(self) -> None:
        """Start it, and don't wait."""
        assert not self._process or self._process.poll() is not None, "the agent runs already"
        self._file.write_text(json.dumps(self.config))
        with self.log.open("a") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start(self) -> None:
        """Start it, and wait until it knows a leader."""
        self.launch()
        self.wait_ready()

    def wait_ready(self) -> None:
        until(self._ready, timeout=START_TIMEOUT, message=lambda: f"{self.name} is ready:\n{self.log_text}")

    def _ready(self) -> bool:
        assert self._process
        assert self._process.poll() is None, f"{self.name} ended:\n{self.log_text}"
        try:
            leader = self.api("/v1/status/leader")
            # A dev agent leads before it has registered its own node.
            return leader.text[:2].strip('"').isdigit() and len(self.api("/v1/catalog/nodes").json) > 0
        except (OSError, ValueError):
            return False

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)
            self.thaw()
            self._process.wait(START_TIMEOUT)


class ConsulCluster:
    """Three servers and client agents, ``client`` the first of them, joined, with a leader."""

    def __init__(
        self, folder: Path, spot: Spot = LOOPBACK, clients: Mapping[str, Spot] | None = None
    ) -> None:
        """The servers stand at ``spot``, each client agent where ``clients`` says; one ``c1`` beside them."""
        # The multiplier of production hardware: a new leader within seconds.
        quick = {"performance": {"raft_multiplier": 1}, "retry_interval": "1s"}
        leading = quick | {"server": True, "bootstrap_expect": 3}
        self.servers = [ConsulAgent(folder / name, name, leading, spot=spot) for name in ("s1", "s2", "s3")]
        self.clients = [
            ConsulAgent(folder / name, name, quick | {"server": False}, spot=where)
            for name, where in (clients or {"c1": spot}).items()
        ]
        for client in self.clients:
            client.config["ports"]["serf_wan"] = -1
        self.client = self.clients[0]
        self.agents = [*self.servers, *self.clients]
        addresses = [agent.at("serf_lan") for agent in self.servers]
        for agent in self.agents:
            agent.config["retry_join"] = addresses

    def start(self) -> None:
        for agent in self.agents:
            agent.launch()
        for agent in self.agents:
            agent.wait_ready()

    def leader(self) -> ConsulAgent:
        """The server that leads, as the client agent knows it; LookupError while there is none."""
        said = self.client.api("/v1/status/leader").text.strip('"')
        for agent in self.servers:
            if said == agent.at("server"):
                return agent
        raise LookupError(f"no leader: {said}")

    def close(self) -> None:
        for agent in self.agents:
            agent.kill()
