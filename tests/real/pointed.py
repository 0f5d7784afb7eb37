"""A Docker host whose containers are pointed at discoverd, with all clients in them, in several ways."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.real import engine as engines
from tests.real.clients import Clients
from tests.real.compose import Compose
from tests.real.contained import Contained
from tests.real.nsd import free_port
from tests.real.place import Place, containers_of
from tests.real.upstreams import unbound
from tests.wait import until

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from tests.real.server import Server
    from tests.real.session import Session

#: Somebody else's names; that of a large set, which is as large below our domain; one that is asked for late.
FOREIGN, FOREIGN_MANY, FOREIGN_LATE = "www.example.org", "many.example.org", "late.example.org"
LARGE = {f"198.51.100.{number}" for number in range(1, 121)}
#: As Unbound has them: denials come with SOA, and there is nothing beyond.
ZONE = (
    'local-zone: "." static',
    'local-zone: "example.org." static',
    'local-data: "example.org. 1 SOA ns.example.org. root.example.org. 1 3600 600 86400 1"',
    f'local-data: "{FOREIGN}. 1 A 203.0.113.7"',
    f'local-zone: "{FOREIGN_LATE}." redirect',
    f'local-data: "{FOREIGN_LATE}. 1 A 203.0.113.8"',
    *(f'local-data: "{FOREIGN_MANY}. 1 A {address}"' for address in sorted(LARGE)),
)
CONFIG = f"""
[[service]]
name = "many"
addresses = {sorted(LARGE)}
"""
PROJECT = """
services:
  app:
    image: {image}
    volumes: {volumes}
    dns: {dns}
    dns_search: shop.docker
    dns_opt: ["ndots:2", "timeout:2"]
"""


class Pointed:
    """discoverd on the host, a name server behind it, and two instances of ``web`` of project ``shop``."""

    def __init__(self, session: Session, folder: Path, stack: ExitStack, number: int) -> None:
        #: What the daemon gives to every container that is told nothing else: the host's bridge address.
        self.bridge = f"10.{session.slot}.{10 + number}.1"
        settings = folder / "daemon.json"
        settings.write_text(json.dumps({"dns": [self.bridge], "dns-search": ["shop.docker"]}))
        engine = engines.another(session, f"clients{number}", number, "--config-file", str(settings))
        stack.callback(engine.close)
        self.engine, self._folder, self._stack = engine, folder, stack
        self.place = Place(engine, folder, stack)
        self.made = stack.enter_context(containers_of(self.place))
        self.clients = Clients(session)
        assert engine.daemon.namespace
        lan = engine.daemon.namespace.gateway
        port = free_port()
        reached = (f"interface: {lan}@{port}", f"access-control: {lan}/16 allow")
        self.upstream = unbound(folder / "upstream", *reached, *ZONE, port=port)
        self.upstream_at = f"{lan}:{port}"
        stack.callback(self.upstream.close)
        self.upstream.wait_answers(FOREIGN)
        self.server = self.serve()
        self.made.network("shop", "--subnet", f"10.{session.slot}.{110 + number}.0/24")
        self.fixed = f"10.{session.slot}.{110 + number}.53"
        labels = ("--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.service=web")
        for replica in (1, 2):
            numbered = ("--label", f"com.docker.compose.container-number={replica}")
            self.made.run(f"shop-web-{replica}", "--network", "shop", *labels, *numbered)
        self.web = {self.place.ip(f"shop-web-{replica}", "shop") for replica in (1, 2)}
        until(
            lambda: self.place.host("web.docker").addresses == self.web, message=lambda: self.server.log_text
        )
        self._ways: dict[str, str] = {}

    def serve(self) -> Server:
        return self.place.serve("--upstream", self.upstream_at, config=CONFIG)

    def start(self, name: str, *options: str) -> str:
        """A container that has all clients; its name."""
        self.made.run(name, *self.clients.options, *options, image=self.clients.image(self.engine))
        return name

    def asker(self, way: str) -> str:
        """The container that is pointed at discoverd in one of :data:`WAYS`."""
        if way not in self._ways:
            self._ways[way] = WAYS[way](self)
        return self._ways[way]

    # -- the ways ---------------------------------------------------------------------------

    def _bridge(self) -> str:
        return self.start("on-bridge")

    def _own_network(self) -> str:
        self.made.network("own")
        return self.start("on-own", "--network", "own")

    def _gateway(self) -> str:
        self.made.network("asked")
        return self.start("on-asked", "--network", "asked", "--dns", self.place.gateway("asked"))

    def _shared(self) -> str:
        options = ("--network", "shop", "--ip", self.fixed)
        flags = ("--upstream", self.upstream_at)
        Contained(self.made, self.clients, "discoverd", *options, flags=flags, watching=True)
        return self.start("on-shared", "--network", "shop", "--dns", self.fixed)

    def _compose(self) -> str:
        compose = Compose(self.engine, self._folder)
        self._stack.callback(compose.close)
        volumes = json.dumps([f"{here}:{there}:ro" for here, there in self.clients.mounts.items()])
        image = self.clients.image(self.engine)
        compose.up("composed", PROJECT.format(image=image, volumes=volumes, dns=self.bridge))
        return "composed-app-1"


WAYS = {
    "daemon.json": Pointed._bridge,
    "daemon.json, through Docker's resolver": Pointed._own_network,
    "--dns and a network's gateway": Pointed._gateway,
    "a shared network and a fixed address": Pointed._shared,
    "dns: of Compose": Pointed._compose,
}
