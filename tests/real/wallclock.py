"""The wall clock of single processes, stepped while they run (libfaketime): the machine's stays as it is."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.real.debian import UnavailableError, need

if TYPE_CHECKING:
    from pathlib import Path


class WallClock:
    """``env`` puts a process under it. What counts seconds since a start (CLOCK_MONOTONIC) is not touched."""

    def __init__(self, folder: Path) -> None:
        need("faketime", "faketime")
        listed = subprocess.run(["dpkg", "-L", "libfaketime"], capture_output=True, text=True, check=False)
        libraries = [line for line in listed.stdout.split() if line.endswith("/libfaketimeMT.so.1")]
        if not libraries:
            raise UnavailableError("Debian's package libfaketime brought no libfaketimeMT.so.1")
        self._file = folder / "clock"
        self.step(0)
        self.env = {
            "LD_PRELOAD": libraries[0],
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def step(self, seconds: int) -> None:
        """So far ahead of (or behind) this machine's clock from now on."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.rename(self._file)
