"""What each value alone cannot show: settings that contradict one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoverd.config.endpoints import Endpoint
    from discoverd.config.models import Config
    from discoverd.config.toml_lines import KeyPath

#: The key that is wrong, the value that shows it (None: none does), and what was expected.
Contradiction = tuple["KeyPath", object, str]


def contradictions(config: Config) -> Iterator[Contradiction]:
    """Every pair of settings that cannot both be meant."""
    yield from _sockets(config)
    yield from _upstreams(config)
    yield from _engines(config)
    yield from _consul(config)
    yield from _services(config)


def _same_socket(one: Endpoint, other: Endpoint) -> bool:
    """Whether both cannot be bound at once; port 0 is a free one each time."""
    return one.port == other.port != 0 and (one.ip == other.ip or one.ip is None or other.ip is None)


def _sockets(config: Config) -> Iterator[Contradiction]:
    for index, endpoint in enumerate(config.listen):
        if any(_same_socket(endpoint, earlier) for earlier in config.listen[:index]):
            yield ("listen", index), str(endpoint), "expected each address once"
    http = config.http.listen
    if http is not None and any(_same_socket(http, endpoint) for endpoint in config.listen):
        yield ("http", "listen"), str(http), "expected another address and port than DNS over TCP has"


def _upstreams(config: Config) -> Iterator[Contradiction]:
    groups: dict[KeyPath, tuple[Endpoint, ...]] = {("forward", "upstreams"): config.forward.upstreams}
    groups |= {("forward", "zones", zone): servers for zone, servers in config.forward.zones.items()}
    listened = {(endpoint.ip, endpoint.port) for endpoint in config.listen}
    for key, servers in groups.items():
        for index, server in enumerate(servers):
            if (server.ip, server.port) in listened:
                yield (*key, index), str(server), "expected another server than discoverd itself"


def _engines(config: Config) -> Iterator[Contradiction]:
    urls, names = set[str](), set[str]()
    for index, engine in enumerate(config.docker):
        if engine.url in urls:
            yield ("docker", index, "url"), engine.url, "expected each engine once"
        if engine.name is not None and engine.name in names:
            yield ("docker", index, "name"), engine.name, "expected a name that no other engine has"
        for given, needed in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
            if getattr(engine, given) is not None and getattr(engine, needed) is None:
                yield ("docker", index, given), getattr(engine, given), f"expected {needed} beside it"
        urls.add(engine.url)
        if engine.name is not None:
            names.add(engine.name)


def _consul(config: Config) -> Iterator[Contradiction]:
    consul = config.consul
    if consul is None:
        return
    for given, needed in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if getattr(consul, given) is not None and getattr(consul, needed) is None:
            yield ("consul", given), getattr(consul, given), f"expected {needed} beside it"
    if consul.url.startswith("http:"):
        for key in ("tls_ca", "tls_cert", "tls_server_name"):
            if getattr(consul, key) is not None:
                yield ("consul", key), getattr(consul, key), "expected a url that begins with https://"
    for index, name in enumerate(consul.datacenters):
        if name == consul.datacenter or name in consul.datacenters[:index]:
            yield ("consul", "datacenters", index), name, "expected each datacenter once"


def _services(config: Config) -> Iterator[Contradiction]:
    seen = set[tuple[object, ...]]()
    for index, service in enumerate(config.services):
        for position, ip in enumerate(service.addresses):
            identity = (service.name, service.scope, ip)
            if identity in seen:
                yield (
                    ("service", index, "addresses", position),
                    str(ip),
                    "expected each address of a service once",
                )
            seen.add(identity)
