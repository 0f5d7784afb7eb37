"""Services that no connection is left for: one query for the checks of all, then a look at what changed.

Dearer than a query for each, because the agent sends the checks of all services whenever one
changes. A new port or instance without a check shows in none of the lists; when the catalog moved
without showing what, all polled services are read, a few at a time.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from zlib import crc32

from discoverd.sources.consul.errors import AwayError, ConsulError
from discoverd.sources.consul.pace import Retry
from discoverd.sources.consul.watch import Watch
from discoverd.supervise import spawn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from discoverd.sources.consul.adapter import Client, Index
    from discoverd.sources.consul.follow import Follower

#: Checks taken in before other work gets its turn: some 5 ms.
SLICE = 500
#: Seconds between two reads of all checks at least; and as a multiple of what taking one in took.
GAP, SHARE = 1.0, 4.0
#: Services read a second while all are read.
SWEEP_RATE = 100
#: Services read at a time.
LANES = 8

#: Sums over the checks of each service (by name in lower case), and over those of each node itself.
Sums = tuple[dict[str, int], dict[str, int]]


class Poller:
    """The services of one datacenter that are not followed each by itself."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        #: The services, and the index of what is known of each.
        self._keys: dict[str, int] = {}
        self._unread: set[str] = set()
        self._marked: dict[str, None] = {}
        self._reading: set[str] = set()
        self._tags: dict[str, tuple[str, ...]] = {}
        self._sums: Sums = ({}, {})
        self._needed, self._work, self._moved = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._cost = 0.0

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    @property
    def behind(self) -> bool:
        """Whether some service was never read, or could not be read last time."""
        return bool(self._unread)

    # -- which services, and which of them are to be read ---------------------------------

    def add(self, key: str) -> None:
        """Take a service over."""
        self._keys[key] = 0
        self._unread.add(key)
        self._needed.set()
        self._mark([key])

    def release(self) -> tuple[str, int] | None:
        """Give a service up, to be followed by itself, and its index; None where there is none."""
        if not self._keys:
            return None
        key, index = self._keys.popitem()
        self._unread.discard(key)
        return key, index

    def listed(self, tags: Mapping[str, tuple[str, ...]]) -> None:
        """The catalog's list is another: names and tags that changed are read again."""
        self._mark(key for key in self._keys if tags.get(key) != self._tags.get(key))
        self._tags = {key: tags[key] for key in self._keys if key in tags}

    def moved(self) -> None:
        """The catalog moved, and its list shows no difference."""
        if self._keys:
            self._moved.set()

    def _mark(self, keys: Iterable[str]) -> None:
        self._marked |= dict.fromkeys(keys)
        self._work.set()

    # -- work -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the polled services in step until cancelled."""
        name = self._follower.name
        async with asyncio.TaskGroup() as group:
            spawn(group, f"{name} checks", self._follow_checks())
            spawn(group, f"{name} sweep", self._sweep())
            for lane in range(LANES):
                spawn(group, f"{name} lane {lane}", self._read_marked())

    async def _follow_checks(self) -> None:
        follower = self._follower
        while True:
            await self._needed.wait()
            await Watch(follower.link, follower.pulse, self._ask, self._compare).run()
            self._needed.clear()

    async def _ask(self, client: Client, index: int) -> tuple[Index, Sums]:
        new, body = await client.get("/v1/health/state/any", self._follower.waiting(index))
        begun = asyncio.get_running_loop().time()
        sums = await sum_up(body)
        self._cost = asyncio.get_running_loop().time() - begun
        return new, sums

    async def _compare(self, sums: Sums) -> bool:
        (old_services, old_nodes), (services, nodes) = self._sums, sums
        self._sums = sums
        changed = {key for key, _ in services.items() ^ old_services.items()}
        moved = {name for name, _ in nodes.items() ^ old_nodes.items()}
        self._mark(
            key for key in self._keys if key in changed or (moved and self._follower.stands_on(key, moved))
        )
        await asyncio.sleep(max(GAP, SHARE * self._cost))
        return not self._keys

    async def _sweep(self) -> None:
        while True:
            await self._moved.wait()
            self._moved.clear()
            for number, key in enumerate(list(self._keys), 1):
                if key in self._keys:
                    self._mark([key])
                if number % 10 == 0:
                    await asyncio.sleep(10 / SWEEP_RATE)

    async def _read_marked(self) -> None:
        """Read one marked service after another, each by one lane at a time: what is read later is newer."""
        retry = Retry()
        while True:
            key = next((k for k in self._marked if k not in self._reading), None)
            if key is None:
                self._work.clear()
                await self._work.wait()
                continue
            del self._marked[key]
            if key not in self._keys:
                continue
            self._reading.add(key)
            try:
                await self._read(key)
                retry.reset()
            except ConsulError:
                self._unread.add(key)
                self._mark([key])
                self._follower.tell()
                self._follower.pulse.hurry()
                await asyncio.sleep(retry.failed())
            finally:
                self._reading.discard(key)
                self._work.set()

    async def _read(self, key: str) -> None:
        follower = self._follower
        await follower.pulse.ready()
        index, endpoints = await follower.link.read(follower.asking(key), self._keys.get(key, 0))
        if key not in self._keys:  # it is followed by itself by now
            return
        if await follower.take_service(key, endpoints):
            self._keys.pop(key, None)
        elif key in self._keys:
            self._keys[key] = index
        if key in self._unread:
            self._unread.discard(key)
            if not self._unread:
                follower.tell()


async def sum_up(body: str) -> Sums:
    """Take in ``/v1/health/state/any``, a slice at a time. Raises AwayError for what is no such reply."""
    services: dict[str, int] = {}
    nodes: dict[str, int] = {}
    decoder = json.JSONDecoder()
    at, count = body.find("[") + 1, 0
    try:
        while at and (at := body.find("{", at)) >= 0:
            check, at = decoder.raw_decode(body, at)
            service = check["ServiceName"].lower()
            said = f"{check['Node']}\n{check['CheckID']}\n{check['ServiceID']}\n{check['Status']}"
            sums, name = (services, service) if service else (nodes, check["Node"])
            sums[name] = sums.get(name, 0) + crc32(said.encode())
            count += 1
            if count % SLICE == 0:
                await asyncio.sleep(0)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise AwayError(f"no list of checks: {error!r}") from None
    return services, nodes
