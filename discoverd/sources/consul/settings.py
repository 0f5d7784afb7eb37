"""The Consul agent to follow, and what is made of its catalog."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from discoverd.config.models import ConsulConfig

#: The datacenter that the agent is in.
HOME = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsulSettings:
    """How to reach the agent, what of it is imported, and whether this host is exported.

    ``url`` is ``http(s)://host:port``; paths are PEM files. See docs/consul.md.
    """

    url: str
    token: str = field(default="", repr=False)
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_verify: bool = True
    tls_server_name: str | None = None
    #: Empty stands for the agent's own.
    datacenters: tuple[str, ...] = (HOME,)
    consistency: Literal["stale", "default", "consistent"] = "stale"
    only_passing: bool = False
    #: A tagged address that goes before Service.Address, such as ``wan``.
    tagged_address: str = ""
    namespace: str = ""
    #: Blocking queries at a time; None: what the agent's own limit leaves.
    max_watches: int | None = None
    export: bool = False
    export_address: Literal["host", "container"] = "host"
    #: Tells exporters through one agent apart; empty: the agent's node name.
    instance: str = ""
    deregister_on_stop: bool = True

    @classmethod
    def of(cls, config: ConsulConfig) -> ConsulSettings:
        """What the configuration says."""
        return cls(
            url=config.url,
            token=config.token.get_secret_value() if config.token else "",
            tls_ca=config.tls_ca,
            tls_cert=config.tls_cert,
            tls_key=config.tls_key,
            tls_verify=config.tls_verify,
            tls_server_name=config.tls_server_name,
            datacenters=(config.datacenter or HOME, *config.datacenters),
            consistency=config.consistency,
            only_passing=config.only_passing,
            tagged_address=config.tagged_address or "",
            namespace=config.namespace or "",
            max_watches=config.max_watches,
            export=config.export,
            export_address=config.export_address,
            instance=config.instance or "",
            deregister_on_stop=config.deregister_on_stop,
        )
