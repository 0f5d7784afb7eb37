"""All real parts of a chaos run: a Docker host, a Consul agent on it, and two servers that follow both.

One server lives through the whole run, and what it holds is measured; the other one has workers and
is killed now and then.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tests.chaos.leases import Leases
from tests.chaos.subject import Subject
from tests.chaos.truth import Container, Truth, of_consul, of_engine
from tests.real import engine as engines
from tests.real.consul import ConsulAgent, Spot
from tests.real.debian import need

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.session import Session

NETWORKS = ("na", "nb")
#: Which of the hosts of one run it is.
NUMBER = 9
SERVICES = ("c0", "c1", "c2")
#: A server that is killed keeps its data, and leads again soon.
CONSUL = {"server": True, "bootstrap_expect": 1, "performance": {"raft_multiplier": 1}}


class World:
    """Raises UnavailableError where the machine has no room for it."""

    def __init__(self, session: Session, folder: Path) -> None:
        self._stack = ExitStack()
        try:
            self._build(session, folder)
        except BaseException:
            self._stack.close()
            raise

    def _build(self, session: Session, folder: Path) -> None:
        need("dig", "bind9-dnsutils")
        self.engine = engines.another(session, "chaos", NUMBER)
        self._stack.callback(self.engine.close)
        namespace = self.engine.daemon.namespace
        assert namespace
        self.enter = tuple(namespace.enter)
        spot = Spot(namespace.address, namespace.address, self.enter)
        self.consul = ConsulAgent(session.root / "consul-chaos", "dev", CONSUL, spot=spot)
        self._stack.callback(self.consul.kill)
        self.consul.start()
        for network in NETWORKS:
            self.engine.docker("network", "create", "--label", session.label, network)
        flags = ("--docker", self.engine.url, "--consul", self.consul.url)
        self.steady = Subject(folder / "steady", "steady", 1, namespace.address, self.enter, flags)
        self.victim = Subject(
            folder / "victim", "victim", 2, namespace.address, self.enter, (*flags, "--workers", "2")
        )
        self.subjects = (self.steady, self.victim)
        self.leases = {each.name: Leases(each, each.dns_port % 10) for each in self.subjects}
        for each in self.subjects:
            self._stack.callback(each.close)
            each.start()
            assert each.server
            each.server.wait_listening()
        #: What the engine and the agent said last.
        self.docs: list[dict[str, Any]] = []
        self.health: dict[str, list[dict[str, Any]]] = {}
        #: Kinds of names whose source cannot be heard at present.
        self.blind: set[str] = set()

    def close(self) -> None:
        self._stack.close()

    # -- the truth ------------------------------------------------------------------------

    def look(self) -> None:
        """Ask the engine for all of its containers."""
        listed = self.engine.docker("ps", "--all", "--quiet", "--no-trunc").split()
        found: list[dict[str, Any]] = []
        for each in listed:  # one that goes meanwhile must not hide the others
            text = self.engine.docker("container", "inspect", each, check=False)
            if text and text != "[]":
                found += json_of(text)
        self.docs = found

    @property
    def containers(self) -> list[Container]:
        return [Container(doc) for doc in self.docs]

    def hear(self) -> None:
        """Ask Consul's agent for all services."""
        self.health = {name: self.consul.api(f"/v1/health/service/{name}").json for name in SERVICES}

    @property
    def registered(self) -> set[str]:
        """The ids of the instances in Consul."""
        return {entry["Service"]["ID"] for held in self.health.values() for entry in held}

    def truth(self) -> dict[str, Truth]:
        """For each server, from what the engine and the agent said last."""
        by_engine, by_consul = of_engine(self.docs), of_consul(self.health)
        found = {}
        for each in self.subjects:
            truth = Truth()
            truth.add("docker", *by_engine)
            truth.add("consul", *by_consul)
            must, may, ids = self.leases[each.name].truth()
            truth.add("lease", must, ids)
            truth.may.update(may)
            truth.add("static", {"printer.docker": {each.static}}, {"printer.docker": [each.static]})
            found[each.name] = truth
        return found


def json_of(text: str) -> list[dict[str, Any]]:
    import json

    found: list[dict[str, Any]] = json.loads(text)
    return found
