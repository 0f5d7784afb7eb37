"""The faults of an engine that its watcher tells apart. No imports: the loop's side needs no client."""

from __future__ import annotations


class EngineError(Exception):
    """One call failed, the engine itself may be well. The text is one line for a user."""


class GoneError(EngineError):
    """The engine knows no such container."""


class NotManagerError(EngineError):
    """The engine is no manager of a swarm, so it knows of no services."""


class EngineAwayError(EngineError):
    """The engine cannot be reached, or what is there is no engine."""
