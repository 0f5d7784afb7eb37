"""All workers: started, told what changes, replaced when they die, ended.

The main process can do all that a worker can. It answers on a worker's sockets until the worker
does, and again from the moment in which the worker is gone: what waits in the sockets is answered.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from discoverd.dns.forwarding import Tally, ended
from discoverd.dns.server import Counts
from discoverd.supervise import Backoff, spawn
from discoverd.workers.link import Link
from discoverd.workers.messages import Begin, Configure, Flush, pack
from discoverd.workers.mirror import AT_ONCE, Marks, Mirror

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discoverd.answering import Answering, Choices, LookUp
    from discoverd.config.models import LogConfig
    from discoverd.dns.server import DnsServer, Listener
    from discoverd.workers.mirror import Mark

log = logging.getLogger("discoverd.workers")

#: Seconds between two updates to all: a single change is told at once, many are told together.
PACE: Final = 0.005
#: Seconds that a worker has to say what it has counted when somebody asks.
COUNT_SECONDS: Final = 1.0


@dataclass
class Place:
    """Where one worker stands, whoever it is at the time.

    ``server`` is the main process's own on the same sockets; ``standing_in`` while it serves them.
    """

    number: int
    listeners: Sequence[Listener]
    server: DnsServer
    standing_in: bool = True
    link: Link | None = None
    #: How many have died, and what they had counted.
    deaths: int = 0
    past: Counts = field(default_factory=Counts)
    past_foreign: Tally = field(default_factory=Tally)

    def counts(self) -> Counts:
        own = self.server.counts() + self.past
        return own + self.link.counts if self.link else own

    def begin(self, choices: Choices, secret: bytes, log_config: LogConfig) -> Begin:
        """What a worker that is to stand here is told first."""
        sockets = tuple(
            (each.host, each.port, each.udp.fileno(), each.tcp.fileno()) for each in self.listeners
        )
        return Begin(self.number, choices, secret, log_config.level, log_config.format, sockets)


class Pool:
    """The main process's servers, which are serving, and a worker for each of them once :meth:`run` runs."""

    def __init__(
        self,
        answering: Answering,
        places: Sequence[tuple[Sequence[Listener], DnsServer]],
        *,
        secret: bytes,
        log_config: LogConfig,
        look_up: LookUp,
    ) -> None:
        """``secret`` is that of the cookies, ``look_up`` asks Consul's agent for a worker."""
        self._places = [Place(number, *place) for number, place in enumerate(places, 1)]
        self._answering, self._secret, self._log_config, self._look_up = (
            answering,
            secret,
            log_config,
            look_up,
        )
        self._mirror = Mirror(answering.registry, answering.catalog, self._changed)
        self._marks = Marks()
        self._due: asyncio.TimerHandle | None = None
        self._told = float("-inf")
        self._stopping = asyncio.Event()

    @property
    def links(self) -> list[Link]:
        return [place.link for place in self._places if place.link is not None]

    async def run(self) -> None:
        """Have all workers there until cancelled."""
        async with asyncio.TaskGroup() as group:
            for place in self._places:
                spawn(group, f"worker {place.number}", self._keep(place))

    async def stop(self, seconds: float) -> None:
        """Have all workers answer what has come and end; who has not after so many seconds is killed."""
        self._stopping.set()
        for link in self.links:
            link.stop()
        if links := self.links:
            await asyncio.wait([link.closed for link in links], timeout=seconds)
        for link in self.links:
            log.warning("process %d did not end in time and is killed", link.pid)
            link.kill()

    def configure(self, log_config: LogConfig) -> None:
        """Tell all workers that the configuration was read again."""
        self._log_config = log_config
        packed = pack(Configure(self._answering.choices, log_config.level))
        for link in self.links:
            link.send(packed)

    # -- one worker -------------------------------------------------------------------------

    async def _keep(self, place: Place) -> None:
        backoff, loop = Backoff(), asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            try:
                end = await self._live(place)
            except OSError as error:
                end = f"cannot be started: {error.strerror or error}"
            except Exception:
                log.exception("worker %d is given up", place.number)
                end = "was given up"
            if self._stopping.is_set():
                break
            if not place.standing_in:
                await place.server.start()
                place.standing_in = True
            place.deaths += 1
            log.warning("worker %d %s: it is replaced, the main process answers for it", place.number, end)
            await asyncio.sleep(backoff.after(loop.time() - started))

    async def _live(self, place: Place) -> str:
        """Start a worker and keep it up to date; returns how it ended. Raises OSError."""

        def answers() -> None:
            place.server.pause()
            place.standing_in = False
            log.info("worker %d answers, process %d", place.number, link.pid)

        link = Link(self._mirror, self._look_up, answers)
        await link.start(place.begin(self._answering.choices, self._secret, self._log_config))
        place.link = link
        try:
            await link.run()
        finally:
            place.link = None
            place.past += replace(link.counts, connections=0)
            place.past_foreign += ended(link.foreign)
        return link.end

    # -- changes ----------------------------------------------------------------------------

    def _changed(self, *marks: Mark) -> None:
        self._marks.add(*marks)
        if self._due is None:
            self._due = asyncio.get_running_loop().call_at(self._told + PACE, self._tell)

    def _tell(self) -> None:
        """Tell all who keep up, at once and with one update; the others, and of much, as they can take it."""
        self._due, self._told = None, asyncio.get_running_loop().time()
        links, marks = self.links, self._marks.all()
        self._marks = Marks()
        ready = [link for link in links if link.keeps_up] if len(marks) <= AT_ONCE else []
        for link in links:
            if link not in ready:
                link.mark(*marks)
        if ready:
            packed = pack(self._mirror.update(marks))
            for link in ready:
                link.send(packed)

    # -- what is said of them ---------------------------------------------------------------

    async def count(self) -> None:
        """Have all say what they have counted by now; who is late is taken at its last word."""
        if links := self.links:
            await asyncio.wait([link.count() for link in links], timeout=COUNT_SECONDS)

    def foreign(self) -> Tally:
        """What workers have counted of other people's names."""
        living = (place.link.foreign for place in self._places if place.link is not None)
        return sum((*living, *(place.past_foreign for place in self._places)), Tally())

    def flush(self, name: str | None) -> None:
        """Have all workers forget what others have answered."""
        packed = pack(Flush(name))
        for link in self.links:
            link.send(packed)

    def counts(self) -> Counts:
        return sum((place.counts() for place in self._places), Counts())

    def tally(self) -> tuple[int, int]:
        """How many answer, and how many have died."""
        answering = sum(link.answering for link in self.links)
        return answering, sum(place.deaths for place in self._places)

    def status(self) -> list[dict[str, Any]]:
        """Of each worker: its number, its process (null while there is none), whether it answers, how many
        before it have died.
        """
        return [
            {
                "number": place.number,
                "pid": place.link.pid if place.link else None,
                "answering": bool(place.link and place.link.answering),
                "deaths": place.deaths,
            }
            for place in self._places
        ]
