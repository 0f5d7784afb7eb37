"""A Docker Engine as a source: its events and lists -> instances.

``watch`` connects, ``connection`` keeps in step, ``book`` knows, ``parse`` reads one inspect, purely.
"""

from discoverd.sources.docker.settings import DockerSettings, default_name, distinct
from discoverd.sources.docker.watch import DockerSource

__all__ = ["DockerSettings", "DockerSource", "default_name", "distinct"]
