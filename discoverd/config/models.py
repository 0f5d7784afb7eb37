"""The whole configuration as frozen, typed values. Every field says its unit and its default.

What a field accepts is in :mod:`discoverd.config.values`; where values come from, and which
one wins, is in :mod:`discoverd.config.load`.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # pydantic reads the annotations at run time
from pathlib import Path  # noqa: TC003
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, PrivateAttr

from discoverd.config.endpoints import LOOPBACK, Endpoint, parse_listen
from discoverd.config.toml_lines import KeyPath  # noqa: TC001
from discoverd.config.values import (
    IP,
    Boolean,
    DockerUrl,
    Domain,
    HttpUrl,
    Identity,
    Label,
    Listen,
    ListenOrOff,
    LogTarget,
    Meta,
    Network,
    PathOrOff,
    PortNumber,
    PortSpec,
    Seconds,
    Secret,
    ServicePort,
    Switch,
    Template,
    Text,
    Upstream,
    as_filled_list,
    as_list,
    choice,
    label_or_none,
    whole,
)

Listed = BeforeValidator(as_list)
Filled = BeforeValidator(as_filled_list)
Names = Annotated[tuple[Domain, ...], Filled]
Listens = Annotated[tuple[Listen, ...], Filled]
Upstreams = Annotated[tuple[Upstream, ...], Listed]
Networks = Annotated[tuple[Network, ...], Listed]
Level = Annotated[Literal["debug", "info", "warning", "error"], choice("debug", "info", "warning", "error")]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class DockerConfig(Frozen):
    """One Docker Engine to watch; a bare URL stands for a table with only that."""

    url: DockerUrl = Field(description="unix:///path, tcp://host:port or ssh://user@host, or context:NAME")
    name: Text | None = Field(
        default=None, description="what logs and sources call it; default: made from the URL"
    )
    host_address: IP | None = Field(
        default=None, description="where clients beyond the host reach published ports; default: nowhere"
    )
    tls_ca: Text | None = Field(default=None, description="path of the PEM file with the engine's authority")
    tls_cert: Text | None = Field(
        default=None, description="path of the PEM file with the client certificate"
    )
    tls_key: Text | None = Field(
        default=None, description="path of the PEM file with the client certificate's key"
    )
    tls_verify: Boolean = Field(default=True, description="whether the engine's certificate is checked")
    only_enabled: Boolean = Field(
        default=False, description="whether only containers with the label discoverd.enable=true are served"
    )
    names: Annotated[tuple[Template, ...], Listed] = Field(
        default=(), description="templates of further names, such as {service}.{project} or {label:app}"
    )
    resync_seconds: Annotated[int, whole(5, 3600, "whole seconds from 5 to 3600")] = Field(
        default=45, description="seconds between full lists, the safety net for changes that have no event"
    )


class ConsulConfig(Frozen):
    """The Consul agent to follow."""

    url: HttpUrl = Field(description="the agent's HTTP address, http://host:8500")
    token: Secret | None = Field(default=None, description="ACL token, sent as X-Consul-Token")
    datacenter: Label | None = Field(
        default=None, description="the datacenter to follow; default: the agent's own"
    )
    datacenters: Annotated[tuple[Label, ...], Listed] = Field(
        default=(), description="further datacenters to follow"
    )
    consistency: Annotated[
        Literal["stale", "default", "consistent"], choice("stale", "default", "consistent")
    ] = Field(default="stale", description="how reads are made: by any server, by the leader, or by a quorum")
    only_passing: Boolean = Field(
        default=False, description="whether instances with a warning are left out, as critical ones are"
    )
    tagged_address: Text | None = Field(
        default=None, description="a tagged address that goes before the usual one, such as wan"
    )
    namespace: Text | None = Field(
        default=None, description="the namespace to follow; ignored by an agent that has none"
    )
    max_watches: Annotated[int, whole(1, 100_000, "a whole number from 1 to 100000")] | None = Field(
        default=None, description="queries that wait in the agent at a time; default: what its limit leaves"
    )
    tls_ca: Text | None = Field(default=None, description="path of the PEM file with the agent's authority")
    tls_cert: Text | None = Field(
        default=None, description="path of the PEM file with the client certificate"
    )
    tls_key: Text | None = Field(
        default=None, description="path of the PEM file with the client certificate's key"
    )
    tls_verify: Boolean = Field(default=True, description="whether the agent's certificate is checked")
    tls_server_name: Text | None = Field(
        default=None, description="the name expected in the agent's certificate; default: the URL's host"
    )
    export: Boolean = Field(default=False, description="whether this host's instances are registered there")
    export_address: Annotated[Literal["host", "container"], choice("host", "container")] = Field(
        default="host",
        description="what is registered: published ports at the host's address, or containers at their own",
    )
    instance: Label | None = Field(
        default=None,
        description="tells several discoverd that register through one agent apart; default: its node name",
    )
    deregister_on_stop: Boolean = Field(
        default=True, description="whether what was registered is taken back when discoverd is stopped"
    )


class ForwardConfig(Frozen):
    """Questions that are not discoverd's own."""

    upstreams: Upstreams = Field(
        default=(),
        description="name servers asked, off: such questions are refused; default: the machine's own,"
        " without discoverd itself",
    )
    zones: Mapping[Domain, Upstreams] = Field(
        default_factory=dict,
        description="name servers for a name and all below it, the longest match wins; with none given such"
        " names are denied",
    )
    tls_ca: Text | None = Field(
        default=None,
        description="path of the PEM file with the authority of tls:// servers; default: the machine's",
    )
    cache_entries: Annotated[int, whole(0, 1_000_000, "a whole number from 0 to 1000000")] = Field(
        default=10_000, description="answers of others that are kept at a time; 0: none"
    )
    cache_bytes: Annotated[int, whole(0, 1 << 40, "bytes, from 0 on")] = Field(
        default=32 << 20, description="memory that these may take in bytes"
    )
    allow: Networks = Field(
        default=(),
        description="askers who may have names forwarded, others are refused; default: loopback, private and"
        " link-local ranges, and the machine's own networks",
    )


class HttpConfig(Frozen):
    """The HTTP API, metrics and web page."""

    listen: ListenOrOff = Field(
        default=parse_listen("127.0.0.1:8053"), description="where HTTP is served; off: nowhere"
    )
    token: Secret | None = Field(default=None, description="bearer token for requests that change something")


class DnsConfig(Frozen):
    """How answers are given."""

    allow_transfer: Networks = Field(default=LOOPBACK, description="askers who may have a zone transferred")
    bare_names: Boolean = Field(default=True, description="whether web alone is answered as web.docker is")
    udp_size: Annotated[int, whole(512, 4096, "bytes from 512 to 4096")] = Field(
        default=1232, description="largest UDP reply in bytes (RFC 6891 section 6.2.5)"
    )
    rate_limit: Annotated[int, whole(0, 1_000_000, "a whole number from 0 to 1000000")] = Field(
        default=100, description="UDP replies a second to a /24 or /56 outside rate_limit_exempt; 0: no bound"
    )
    rate_limit_exempt: Networks = Field(
        default=(), description="askers whose addresses nobody can forge; default: as forward.allow's"
    )
    negative_ttl: Seconds = Field(
        default=5, description="seconds that negative answers may be cached (RFC 2308)"
    )
    nsid: Identity = Field(
        default=None, description="what says which server this is (RFC 5001); default: the host's name"
    )


class HealthConfig(Frozen):
    """What health means for answers."""

    when_none: Annotated[Literal["all", "empty"], choice("all", "empty")] = Field(
        default="all", description="what a service without a healthy instance gives: all that run, or no data"
    )


class LogConfig(Frozen):
    """discoverd's own log, on standard error."""

    level: Level = Field(default="info", description="least severe level that is logged")
    format: Annotated[Literal["text", "json"], choice("text", "json")] = Field(
        default="text", description="one line of text or one JSON object for each message"
    )


class QueryLogConfig(Frozen):
    """Where every answer, or one of so many, is noted."""

    to: LogTarget = Field(
        description="stdout, a path, or unix:///path or tcp://host:port of a reader, which gets dnstap"
    )
    format: Annotated[Literal["text", "json"], choice("text", "json")] = Field(
        default="text", description="one line of text or one JSON object for each answer; readers get dnstap"
    )
    sample: Annotated[int, whole(1, 1_000_000, "a whole number from 1 to 1000000")] = Field(
        default=1, description="of so many answers one is noted; 1: each"
    )


class ServiceConfig(Frozen):
    """A static service: each address is an instance of its own."""

    name: Label = Field(description="the service's name, one DNS label")
    scope: Annotated[str, PlainValidator(label_or_none)] = Field(
        default="", description="what the name is unique in; default: nothing"
    )
    addresses: Annotated[tuple[IP, ...], Filled] = Field(description="IP addresses")
    port: PortNumber | None = Field(default=None, description="the TCP port, where one number says it all")
    ports: Annotated[tuple[ServicePort, ...], Listed] = Field(
        default=(), description='numbers, "name=80/tcp" or tables'
    )
    tags: Annotated[tuple[Label, ...], Listed] = Field(
        default=(), description="names in front of the service's"
    )
    meta: Meta = Field(default=(), description="key and text pairs, served as TXT (RFC 6763 section 6)")
    ttl: Seconds | None = Field(
        default=None, description="seconds that an answer may be cached; default: the configured ttl"
    )
    weight: Annotated[int, whole(0, 65535, "a whole number from 0 to 65535")] = Field(
        default=1, description="share of the load among the service's instances (RFC 2782)"
    )

    @property
    def all_ports(self) -> tuple[PortSpec, ...]:
        """``port`` and ``ports`` together, each once."""
        first = () if self.port is None else (PortSpec(self.port),)
        return tuple(dict.fromkeys(first + self.ports))


def _url_table(value: Any) -> Any:
    """A URL alone stands for the table that says only that."""
    return {"url": value} if isinstance(value, str) else value


def _consul_table(value: Any) -> Any:
    table = _url_table(value)
    return None if isinstance(table, dict) and table.get("url") == "off" else table


#: What depends on which networks are near.
_ALLOW, _EXEMPT = ("forward", "allow"), ("dns", "rate_limit_exempt")


class Config(Frozen):
    """Everything discoverd can be told."""

    listen: Listens = Field(
        default=(parse_listen("127.0.0.1:1053"),),
        description="where DNS is served, UDP and TCP each",
    )
    domains: Names = Field(default=("docker",), description="suffixes that discoverd answers for")
    ttl: Seconds = Field(default=5, description="seconds that an answer may be cached")
    scope: Annotated[Literal["prefer", "strict"], choice("prefer", "strict")] = Field(
        default="prefer", description="what a container gets of a service it shares no network with"
    )
    workers: Annotated[int, whole(1, 64, "a whole number from 1 to 64")] = Field(
        default=1, description="processes that answer"
    )
    state_dir: PathOrOff = Field(
        default=None,
        description="directory of registrations and last known answers, off: in memory only; default:"
        " $STATE_DIRECTORY, for root /var/lib/discoverd, else $XDG_STATE_HOME/discoverd or"
        " ~/.local/state/discoverd",
    )
    max_stale: Seconds = Field(
        default=3600,
        description="seconds that a source's last known answers are served after a start that does not reach"
        " it; 0: none are kept",
    )
    take_over: Switch = Field(
        default=False,
        description="whether to take over from the server that has this state directory, if any",
    )
    docker: Annotated[tuple[Annotated[DockerConfig, BeforeValidator(_url_table)], ...], Listed] = Field(
        default=(),
        description="Docker Engines that are watched; default: DOCKER_HOST, else the context in use, else"
        " /var/run/docker.sock where it is there",
    )
    consul: Annotated[ConsulConfig | None, BeforeValidator(_consul_table)] = Field(
        default=None, description="the Consul agent that is followed"
    )
    forward: ForwardConfig = ForwardConfig()
    http: HttpConfig = HttpConfig()
    dns: DnsConfig = DnsConfig()
    health: HealthConfig = HealthConfig()
    log: LogConfig = LogConfig()
    query_log: QueryLogConfig | None = Field(default=None, description="where answers are noted")
    services: Annotated[tuple[ServiceConfig, ...], Listed] = Field(
        default=(), alias="service", description="static services"
    )

    _path: Path | None = PrivateAttr(None)
    _origins: Mapping[KeyPath, str] = PrivateAttr(default_factory=dict)
    _notes: tuple[str, ...] = PrivateAttr(())

    def remember(self, path: Path | None, origins: Mapping[KeyPath, str], notes: tuple[str, ...]) -> None:
        """Keep where all this came from; called once, by the loader."""
        self._path, self._origins, self._notes = path, origins, notes

    @property
    def path(self) -> Path | None:
        """The file that was read, None without one."""
        return self._path

    @property
    def origins(self) -> Mapping[KeyPath, str]:
        """Where each setting came from: ``--ttl``, ``DISCOVERD_TTL``, ``discoverd.toml:3`` or ``default``."""
        return self._origins

    def with_upstreams(self, upstreams: tuple[Endpoint, ...]) -> Config:
        """The same with other upstream servers: the machine's own have changed."""
        forward = self.forward.model_copy(update={"upstreams": upstreams})
        return self.model_copy(update={"forward": forward})

    @property
    def near(self) -> Networks | None:
        """The networks that count as near where nobody has said which do; None where it was said for all."""
        for key, networks in ((_ALLOW, self.forward.allow), (_EXEMPT, self.dns.rate_limit_exempt)):
            if self._origins.get(key, "default") == "default":
                return networks
        return None

    def with_near(self, networks: Networks) -> Config:
        """The same with other networks for near: the machine is on others by now."""
        update: dict[str, BaseModel] = {}
        for key, table in ((_ALLOW, self.forward), (_EXEMPT, self.dns)):
            if self._origins.get(key, "default") == "default":
                update[str(key[0])] = table.model_copy(update={key[1]: networks})
        return self.model_copy(update=update)

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines worth a warning that are no error, such as a variable that looks misspelt."""
        return self._notes

    def redacted(self) -> dict[str, Any]:
        """The configuration as a file would say it, with ``***`` for secrets and without what is unset."""
        return self.model_dump(by_alias=True, exclude_none=True)
