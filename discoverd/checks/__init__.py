"""Checks that discoverd makes itself, for instances that ask for one and have no other (docs/checks.md)."""

from discoverd.checks.source import LANES, CheckedSource

__all__ = ["LANES", "CheckedSource"]
