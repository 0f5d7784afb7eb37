"""What can go wrong with an agent, by what is to be done about it. Every text is one line."""

from __future__ import annotations


class ConsulError(Exception):
    """The agent did not answer as asked."""


class AwayError(ConsulError):
    """Out of reach, without a leader, or no Consul agent: keep what is known, forget the index, try later."""


class BusyError(ConsulError):
    """429: the whole client is to slow down."""


class DeniedError(ConsulError):
    """401 or 403: the token may not do this, and trying at once again changes nothing."""


class RequestError(ConsulError):
    """Another 4xx: what was asked makes no sense to this agent."""


class NotFoundError(RequestError):
    """404."""
