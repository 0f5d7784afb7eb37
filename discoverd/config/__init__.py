"""One typed, documented configuration from flags, environment, file and machine.

:func:`load` makes a :class:`Config` or raises :class:`ConfigError`, whose ``line`` names where a
wrong value came from, the value, and what is expected.
"""

from discoverd.config.endpoints import Endpoint
from discoverd.config.errors import ConfigError
from discoverd.config.load import load
from discoverd.config.models import (
    Config,
    ConsulConfig,
    DnsConfig,
    DockerConfig,
    ForwardConfig,
    HealthConfig,
    HttpConfig,
    LogConfig,
    ServiceConfig,
)
from discoverd.config.values import PortSpec

__all__ = [
    "Config",
    "ConfigError",
    "ConsulConfig",
    "DnsConfig",
    "DockerConfig",
    "Endpoint",
    "ForwardConfig",
    "HealthConfig",
    "HttpConfig",
    "LogConfig",
    "PortSpec",
    "ServiceConfig",
    "load",
]
