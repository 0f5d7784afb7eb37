"""Name servers that questions are passed on to: how they are reached, and how they have done so far."""

from discoverd.resolver.upstreams.server import Server
from discoverd.resolver.upstreams.upstream import Upstream

__all__ = ["Server", "Upstream"]
