"""Consul: the catalog -> instances, and this host's instances -> the catalog."""

from discoverd.sources.consul.errors import ConsulError
from discoverd.sources.consul.settings import HOME, ConsulSettings
from discoverd.sources.consul.source import ConsulSource, source_name

__all__ = ["HOME", "ConsulError", "ConsulSettings", "ConsulSource", "source_name"]
