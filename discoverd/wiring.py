"""The configuration to what each part is given. Pure but for opening the state directory."""

from __future__ import annotations

import hashlib
import logging
import secrets
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from discoverd.answering import Choices
from discoverd.config.endpoints import TlsServer
from discoverd.config.machine import LOCAL_NETWORKS, ResolvConf, default_upstreams, is_private, this_machine
from discoverd.http.guard import Access
from discoverd.ledger import LedgerError, open_ledger
from discoverd.querylog import Settings as QueryLogSettings
from discoverd.resolver.forward import Upstream
from discoverd.resolver.local import Settings
from discoverd.resolver.select import Policy
from discoverd.sources.consul import ConsulSettings, source_name
from discoverd.sources.docker import DockerSettings, distinct
from discoverd.warm import Followed, Keeper, SerialKeeper

if TYPE_CHECKING:
    from collections.abc import Iterable

    from discoverd.catalog import Catalog
    from discoverd.config import Config, Endpoint
    from discoverd.host import HostAddresses
    from discoverd.ledger import Ledger
    from discoverd.registry import Registry

    SourceSettings = DockerSettings | ConsulSettings

log = logging.getLogger("discoverd")

#: Told to workers, so that a question which comes back to another of them is known all the same.
IDENTITY: Final = secrets.token_bytes(6)


class StartError(Exception):
    """The server cannot start on this machine; the text is one line that says why and what to do."""


def settings_of(config: Config) -> Settings:
    """What of the configuration decides answers."""
    return Settings(
        domains=config.domains,
        ttl=config.ttl,
        negative_ttl=config.dns.negative_ttl,
        bare_names=config.dns.bare_names,
        policy=Policy(strict=config.scope == "strict", fail_open=config.health.when_none == "all"),
    )


def access_of(config: Config, passed: Iterable[socket.socket] = ()) -> Access:
    """Who may change something over HTTP; ``passed`` sockets serve it instead of what is configured."""
    token, endpoint = config.http.token, config.http.listen
    beyond = endpoint is not None and not endpoint.is_loopback
    if addresses := [sock.getsockname()[0] for sock in passed if sock.family != socket.AF_UNIX]:
        beyond = not all(ip_address(address).is_loopback for address in addresses)
    return Access(token.get_secret_value() if token else None, beyond)


def ledger_of(config: Config) -> Ledger | None:
    """Where registrations are kept; None for memory. Raises StartError for a place that was asked for."""
    if config.state_dir is None:
        return None
    try:
        return open_ledger(config.state_dir)
    except LedgerError as error:
        if config.origins.get(("state_dir",), "default") != "default":
            raise StartError(str(error)) from None
        log.warning("%s; until then they are kept in memory only", error)
        return None


def query_log_of(config: Config) -> QueryLogSettings | None:
    given = config.query_log
    return None if given is None else QueryLogSettings(given.to, given.format, given.sample)


def keeper_of(config: Config, ledger: Ledger | None, registry: Registry, catalog: Catalog) -> Keeper | None:
    """What keeps the sources' last words: beside the ledger, whose lock keeps other processes out."""
    if ledger is None or not config.max_stale:
        return None
    return Keeper(registry, catalog, ledger.path.parent / "last-known", config.max_stale)


def serial_of(ledger: Ledger | None, registry: Registry) -> SerialKeeper | None:
    """What keeps the SOA serial, beside the ledger; it goes on from what is kept."""
    if ledger is None:
        return None
    keeper = SerialKeeper(registry, ledger.path.parent / "serial")
    keeper.begin()
    return keeper


def followed_of(settings: SourceSettings) -> tuple[Followed, ...]:
    """A source's names on disk, with a digest of what would make it say something else."""
    if isinstance(settings, ConsulSettings):
        consul = (settings.url, settings.namespace, settings.only_passing, settings.tagged_address)
        export = (settings.export, settings.instance) if settings.export else ()
        digest = _digest((consul, export))
        return tuple(Followed(source_name(d), digest, d) for d in settings.datacenters)
    engine = (settings.url, settings.host_address, settings.only_enabled, settings.names)
    return (Followed(f"docker/{settings.name}", _digest(engine)),)


def _digest(values: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:32]


def choices_of(config: Config) -> Choices:
    """What of the configuration the answering side goes by, in this process and in workers."""
    zones = config.forward.zones.items()
    return Choices(
        settings=settings_of(config),
        udp_size=config.dns.udp_size,
        allow_transfer=tuple(config.dns.allow_transfer),
        upstreams=_upstreams(config, config.forward.upstreams),
        zones=tuple((name, _upstreams(config, servers)) for name, servers in zones),
        cache=(config.forward.cache_entries, config.forward.cache_bytes),
        mark=IDENTITY,
        rate_limit=config.dns.rate_limit,
        rate_limit_exempt=tuple(config.dns.rate_limit_exempt),
        recursion=tuple(config.forward.allow),
        consul=config.consul is not None,
        only_passing=config.consul is not None and config.consul.only_passing,
        remote=tuple(remote_of(config).items()),
        identity=config.dns.nsid,
        query_log=query_log_of(config),
    )


def _upstreams(config: Config, servers: Iterable[Endpoint]) -> tuple[Upstream, ...]:
    authority = config.forward.tls_ca or ""
    return tuple(
        Upstream(server.host, server.port, tls=True, name=server.name, authority=authority)
        if isinstance(server, TlsServer)
        else Upstream(server.host, server.port)
        for server in servers
    )


class MachineChanges:
    """What of the machine decides answers and may come late: its own name servers, and its networks."""

    def __init__(self, host: HostAddresses) -> None:
        self._file, self._host = ResolvConf(), host
        #: What was compared last.
        self._seen: tuple[object, object] = (None, None)

    def look(self, config: Config) -> Config | None:
        """The configuration with what there is now; None where nothing has changed."""
        return self._look_at_servers(config) or self._look_at_networks(config)

    def _look_at_servers(self, config: Config) -> Config | None:
        """They are asked where nobody has named any."""
        if not self._file.changed() or config.origins.get(("forward", "upstreams"), "default") != "default":
            return None
        servers = default_upstreams(this_machine(), config.listen)
        if servers == config.forward.upstreams:
            return None
        listed = ", ".join(map(str, servers)) or "nobody"
        log.info("the machine's name servers have changed: other names are asked of %s", listed)
        return config.with_upstreams(servers)

    def _look_at_networks(self, config: Config) -> Config | None:
        """Those that are not private: who is on them is near, where nobody has said who is."""
        networks = self._host.networks
        seen, self._seen = self._seen, (networks, config.near)
        if seen[0] is networks and seen[1] is config.near:
            return None
        if config.near is None or not networks:  # there is always one: it could not be asked
            return None
        now = {network for network in networks if not is_private(network)}
        if now == {network for network in config.near if not is_private(network)}:
            return None
        listed = ", ".join(sorted(map(str, now))) or "private ones only"
        log.info("the machine's networks have changed: names are forwarded for %s", listed)
        return config.with_near((*LOCAL_NETWORKS, *now))


def sources_of(config: Config) -> tuple[SourceSettings, ...]:
    """What is configured beside static services and registrations."""
    return engines_of(config) + ((ConsulSettings.of(config.consul),) if config.consul else ())


def source_names(settings: SourceSettings) -> tuple[str, ...]:
    if isinstance(settings, ConsulSettings):
        return tuple(source_name(datacenter) for datacenter in settings.datacenters)
    return (f"docker/{settings.name}",)


def engines_of(config: Config) -> tuple[DockerSettings, ...]:
    """The configured engines, each under a name of its own."""
    return distinct(
        DockerSettings(
            url=engine.url,
            name=engine.name or "",
            host_address=engine.host_address,
            tls_ca=engine.tls_ca,
            tls_cert=engine.tls_cert,
            tls_key=engine.tls_key,
            tls_verify=engine.tls_verify,
            only_enabled=engine.only_enabled,
            names=engine.names,
            resync_seconds=engine.resync_seconds,
        )
        for engine in config.docker
    )


def remote_of(config: Config) -> dict[str, str]:
    """Source -> host, for engines that are reached through a network."""
    return {f"docker/{e.name}": e.reached_at for e in engines_of(config) if e.reached_at}


def hosts_of(endpoint: Endpoint) -> tuple[str, ...]:
    """The addresses to bind for one ``--listen``: ``:53`` is both wildcards."""
    return (endpoint.host,) if endpoint.ip is not None else ("0.0.0.0", "::")  # noqa: S104 - as asked for
