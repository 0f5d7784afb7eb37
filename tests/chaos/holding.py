"""What a server holds on to: as much at the end as at the beginning, once all that it served is gone."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.wait import until

if TYPE_CHECKING:
    from tests.chaos.subject import Subject

#: Files and threads that may be more: up to 32 threads talk to an engine, each made when it is first needed.
SLACK = 40
#: KiB that the memory may have grown: what is left of names that are remembered, and of fragments.
GROWTH = 12 * 1024
#: Seconds until connections that nobody uses any more are closed, and questions to the agent over.
LINGER = 90.0


class Holding:
    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.measures: list[dict[str, Any]] = []

    def measure(self) -> str:
        """One measure more; AssertionError where it is more than the first."""
        if not self.measures:
            self.measures.append(self._subject.holds())
            return self.text
        first = self.measures[0]
        seen: list[dict[str, Any]] = []

        def flat() -> bool:
            seen[:] = [self._subject.holds()]
            now = seen[0]
            return bool(
                len(now["tasks"]) <= len(first["tasks"])
                and now["files"] <= first["files"] + SLACK
                and now["threads"] <= first["threads"] + SLACK
                and now["resident_kib"] <= first["resident_kib"] + GROWTH
            )

        def otherwise() -> str:
            more = Counter(seen[0]["tasks"]) - Counter(first["tasks"])
            return f"no more is held than at first: {first}\nnow {seen}\nmore tasks: {more}"

        until(flat, timeout=LINGER, interval=2, message=otherwise)
        self.measures += seen
        return self.text

    @property
    def text(self) -> str:
        """The first measure and the last one."""
        ends = [self.measures[0], self.measures[-1]] if self.measures else []
        return " -> ".join(
            f"{m['resident_kib'] / 1024:.1f} MiB, {m['files']} files, {len(m['tasks'])} tasks,"
            f" {m['threads']} threads"
            for m in ends
        )
