"""What each source last said, kept on disk for a start that does not reach it: docs/warm-start.md."""

from discoverd.warm.keeper import Followed, Keeper
from discoverd.warm.serial import SerialKeeper

__all__ = ["Followed", "Keeper", "SerialKeeper"]
