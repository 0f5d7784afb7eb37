"""The driver's end of the load: starts it, tells it the truth, and hears what must not have been."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from tests.real.debian import REPO

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.chaos.subject import Subject
    from tests.chaos.truth import Truth


class Loader:
    def __init__(self, rate: int, subjects: Iterable[Subject]) -> None:
        named = [f"{each.name}={each.address}:{each.dns_port}" for each in subjects]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.load", str(rate), *named],
            cwd=REPO,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._read, name="load", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._said.append(line.rstrip("\n"))

    def tell(self, truth: Mapping[str, Truth], blind: Iterable[str]) -> None:
        """The present truth for each server, and whose word it cannot hear at present."""
        said: dict[str, Any] = {"blind": sorted(blind)}
        for server, known in truth.items():
            said[server] = {
                "must": {name: sorted(held) for name, held in known.must.items()},
                "may": {name: sorted(held) for name, held in known.may.items()},
                "ids": known.ids,
                "kind": known.kind,
            }
        assert self._process.stdin
        self._process.stdin.write(json.dumps(said) + "\n")
        self._process.stdin.flush()

    def check(self) -> None:
        """AssertionError with all that must not have been, so far."""
        assert self._process.poll() is None, f"the load ended: {self._said[-20:]}"
        assert not self._said, "\n".join(self._said[:50])

    def end(self) -> dict[str, dict[str, int]]:
        """What was counted, by server. AssertionError as :meth:`check`, also for what came last."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)
        self._reader.join(30)
        *wrong, last = self._said
        assert not wrong, "\n".join(wrong[:50])
        counts: dict[str, dict[str, int]] = json.loads(last)["counts"]
        return counts

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(30)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
