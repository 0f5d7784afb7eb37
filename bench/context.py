"""What experiments share: the loads, the servers they start, the files of questions."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from bench import measure
from bench.catalog import Catalog, write_questions
from bench.measure import Contestant
from bench.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.measure import Effort
    from bench.peers import Peer

CATALOG: Final = Catalog()
PLAIN: Final = "plain"
HALF: Final = "half unknown"
NEW_HALF: Final = "new unknown"
TCP: Final = "tcp"
#: Name of a load, the load generator's flags, what it is.
LOADS: Final[tuple[tuple[str, tuple[str, ...], str], ...]] = (
    (PLAIN, (), "A questions without EDNS, each service once in turn"),
    ("edns", ("--edns",), "the same with an OPT record"),
    (
        "cookies",
        ("--cookies", "1000"),
        "the same with EDNS and a client cookie, each question one of 1,000 clients'",
    ),
    ("new cookies", ("--cookies", "0"), "the same, each question with a client cookie never seen before"),
    ("mixed case", ("--mixed-case",), "each letter of each question in random case"),
    (HALF, (), "half of the questions for names that do not exist"),
    (NEW_HALF, ("--fresh",), "the same, each of those names never asked for before"),
)


@dataclass
class Bench:
    """What the experiments share: the effort, the peers that take part, and where files go."""

    effort: Effort
    taking_part: Sequence[Peer]
    home: Path
    tell: Callable[[str], None]
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def serve(self, peer: Peer, catalog: Catalog = CATALOG, *, core: int | None = None) -> Server:
        """Start a server that runs until the experiment is over."""
        self.tell(f"starting {peer.name}")
        cores = self.effort.cores
        server = Server(peer, catalog, cores.server if core is None else core, self.effort.nice)
        return self.stack.enter_context(server)

    def questions(
        self, peer: Peer, kind: str = PLAIN, catalog: Catalog = CATALOG, first: int | None = None
    ) -> Path:
        shape = f"{catalog.services}x{catalog.instances}-{first or 'all'}"
        path = self.home / f"{peer.suffix}-{kind.replace(' ', '-')}-{shape}"
        if not path.exists():
            write_questions(path, catalog, peer.suffix, half_unknown=kind == HALF, first=first)
        return path

    def contestant(self, server: Server, load: str = PLAIN, *flags: str, label: str = "") -> Contestant:
        kind = HALF if load in (HALF, NEW_HALF) else PLAIN
        fixed = next((f for name, f, _ in LOADS if name == load), ())
        return Contestant(
            label or server.peer.name, server, self.questions(server.peer, kind), (*fixed, *flags)
        )

    def run(self, contestants: Sequence[Contestant], rounds: int = 0) -> None:
        """Measure them in turn; ``rounds`` where it takes others than usual."""
        effort = replace(self.effort, rounds=rounds) if rounds else self.effort
        measure.run(contestants, effort, self.tell)

    def settle(self, server: Server, questions: Path, count: int, load: Sequence[str] = ()) -> None:
        """Ask until there were four times ``count`` answers, so that what a server learns it has learnt."""
        asked = 0
        while asked < 4 * count:
            self.tell(f"warming up {server.peer.name}: {asked:,} of {4 * count:,}")
            asked += measure.burst(server, questions, 2.0, self.effort, load)
