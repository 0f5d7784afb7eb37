"""The composition root: everything is made and joined here, start-up and shut-down top to bottom."""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
from contextlib import suppress
from functools import reduce
from itertools import chain
from typing import TYPE_CHECKING

from discoverd.answering import Answering
from discoverd.checks import LANES, CheckedSource
from discoverd.config import ConfigError
from discoverd.config.settings import AT_START
from discoverd.dns import server as dns
from discoverd.dns.adopt import NONE_HELD, address_of, adopt
from discoverd.dns.cookies import SECRET_SIZE, Cookies
from discoverd.http.api import Api, Parts
from discoverd.http.doh import exchange
from discoverd.metrics import Metrics
from discoverd.resolver.outcome import Fail
from discoverd.sources.consul import ConsulError, ConsulSettings, ConsulSource
from discoverd.sources.docker import DockerSource
from discoverd.sources.leases import FullError, LeaseSource, NotKeptError
from discoverd.sources.static import StaticSource
from discoverd.state import State
from discoverd.supervise import keep_running, spawn
from discoverd.systemd import NONE_PASSED, Passed
from discoverd.thishost import ThisHost
from discoverd.webside import WebSide, bind
from discoverd.wiring import (
    MachineChanges,
    StartError,
    access_of,
    choices_of,
    hosts_of,
    source_names,
    sources_of,
)
from discoverd.workers.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from discoverd.catalog import Fetched, Lookup
    from discoverd.config import Config
    from discoverd.dns.adopt import Held
    from discoverd.dns.forwarding import Tally
    from discoverd.registry import Writer
    from discoverd.sources.base import Lag, Sink, Source
    from discoverd.wiring import SourceSettings

log = logging.getLogger("discoverd")

#: Seconds that questions under way have to be answered once the server is told to stop.
LAST_ANSWERS_SECONDS = 2.0
#: Seconds that workers have to end by themselves then, those last answers included.
WORKERS_END_SECONDS = 3.5


class App:
    """One configured server. Public parts are what tests and benches compose with."""

    def __init__(self, config: Config, passed: Passed = NONE_PASSED, held: Held = NONE_HELD) -> None:
        """``passed`` sockets are served instead of the addresses that are configured, ``held`` ones where
        they have the address that is.
        """
        self.config, self._passed, self._held = config, passed, held
        self._secret = secrets.token_bytes(SECRET_SIZE)
        self.answering = Answering(choices_of(config), Cookies(self._secret), self._ask_consul)
        self._machine = MachineChanges(self.answering.host_addresses)
        self.registry, self.catalog = self.answering.registry, self.answering.catalog
        self.local, self.views = self.answering.local, self.answering.views
        self.handler, self.forwarding = self.answering.handler, self.answering.forwarding
        self.static = StaticSource(self.registry.writer("static", "static"), config.services)
        self.leases = LeaseSource(self.registry.writer(LeaseSource.name, LeaseSource.kind))
        self._consul: ConsulSource | None = None
        self.state = State(config, self.registry, self.catalog, self.leases)
        self._wanted_sources = sources_of(config)
        self._check_lanes = asyncio.Semaphore(LANES)
        self._sources: dict[SourceSettings, asyncio.Task[None]] = {}
        self._sources_changed = asyncio.Event()
        #: By source: how long its changes took to be answered.
        self.lags: dict[str, Lag] = {}
        #: Of sources that are yet to be run, so that what they begin with is not asked away.
        self._waiting = {settings: self._make_writers(settings) for settings in self._wanted_sources}
        self._given = dict(self._waiting)
        self.listeners: list[dns.Listener] = []
        #: One for each of the listeners' places: the only one, or one beside each worker.
        self.servers: list[dns.DnsServer] = []
        self._pool: Pool | None = None
        self._started = asyncio.Event()
        self.web: WebSide | None = None

    @property
    def server(self) -> dns.DnsServer | None:
        """What of this process serves the first of the sockets, once they are bound."""
        return self.servers[0] if self.servers else None

    # -- start and stop -------------------------------------------------------------------

    async def start(self) -> None:
        """Bind, publish what is static, and serve. Raises StartError with nothing left open."""
        self.static.reload(self.config.services)
        self.state.open()
        for settings, writers in self._given.items():
            await self.state.follow(settings, writers)
        places = await self._bind(self.config.workers)
        self.servers = [self.answering.server(listeners) for listeners in places]
        if len(places) > 1:
            self._pool = Pool(
                self.answering,
                list(zip(places, self.servers, strict=True)),
                secret=self._secret,
                log_config=self.config.log,
                look_up=self._ask_consul,
            )
        await self._start_http()
        # what was made so far stays for good: the collector need not look at it again (1-3% a question)
        gc.freeze()
        for server in self.servers:
            await server.start()
        for listener in self.listeners:
            log.info("listening on dns://%s", listener.name)
        self._say_what_answers()
        self._started.set()

    async def in_step(self, seconds: float) -> None:
        """Wait until all sources that are followed are, or so many seconds are over."""
        names = {name for settings in self._wanted_sources for name in source_names(settings)}
        changed = asyncio.Event()
        leave = self.registry.subscribe(lambda _change: changed.set())
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while names & self.registry.syncing:
                    changed.clear()
                    await changed.wait()
        leave()

    async def stop(self) -> None:
        """Stop accepting, answer what is in flight, close."""
        for server in self.servers:
            await server.stop_accepting()
        async with asyncio.TaskGroup() as group:
            if self._pool is not None:
                spawn(group, "end workers", self._pool.stop(WORKERS_END_SECONDS))
            for server in self.servers:
                spawn(group, "hear who has come", server.hear_who_has_come())
            await self.forwarding.finish(LAST_ANSWERS_SECONDS)
        for server in self.servers:
            await server.stop()
        await self.answering.close()
        if self.web is not None:
            await self.web.close()
        await self.state.close()

    def stay(self) -> None:
        """Take back nothing from Consul at the end."""
        if self._consul is not None:
            self._consul.stay()

    async def _start_http(self) -> None:
        endpoint, sockets = self.config.http.listen, list(self._passed.http)
        try:
            if endpoint is not None and not sockets:
                sockets = bind(endpoint, self._held)
        except StartError:
            for server in self.servers:
                server.close()
            await self.leases.close()
            raise
        self._held.close()
        if sockets:
            self.web = WebSide(sockets, self._api)
            await self.web.start()
            self.web.say()

    def _api(self) -> Api:
        metrics = Metrics(self.registry, self._counts, self.leases, self.lags)
        metrics.foreign = self._foreign
        if self._pool is not None:
            metrics.workers = self._pool.tally
        api = Api(
            Parts(
                self.registry,
                self.local,
                self.views,
                self.leases,
                {FullError: 429, NotKeptError: 503},
                exchange(self.handler, self.forwarding.take),
                self._metrics(metrics),
                self._pool.status if self._pool is not None else list,
                self.flush,
            ),
            access_of(self.config, self._passed.http),
        )
        metrics.requests, metrics.streams = api.requests.counts, api.events.clients
        return api

    @property
    def status(self) -> str:
        """One line for people, such as ``systemctl status`` shows."""
        return f"answering on {', '.join(listener.name for listener in self.listeners)}"

    def _say_what_answers(self) -> None:
        """Lines that answer when they are pasted into a shell."""
        services = list(dict.fromkeys(s.name for s in self.config.services))[:3]
        listener = self.listeners[0]
        for name in services:
            where = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.host, listener.host)  # noqa: S104
            log.info("try: dig @%s -p %d %s.%s", where, listener.port, name, self.config.domains[0])

    async def _bind(self, workers: int) -> list[list[dns.Listener]]:
        """Bind everything, once for each worker. Raises StartError with nothing left open."""
        bound: list[list[dns.Listener]] = []
        try:
            bound += adopt(self._passed.dns, workers)
            for sock in self._passed.http:
                address_of(sock)
            for endpoint in self.config.listen if not bound else ():
                for host in hosts_of(endpoint):
                    held = self._held.claim(host, endpoint.port, workers)
                    bound.append(held or dns.bind_all(host, endpoint.port, workers))
        except dns.BindError as error:
            for listener in chain(*bound):
                listener.close()
            await self.leases.close()
            raise StartError(str(error)) from None
        self.listeners = [shared[0] for shared in bound]
        # those of one address may be more than there are places
        return [list(chain(*(shared[i::workers] for shared in bound))) for i in range(workers)]

    # -- sources --------------------------------------------------------------------------

    async def run_sources(self) -> None:
        """Run every source and the housekeeping; start and end sources as a reload says."""
        async with asyncio.TaskGroup() as group:
            spawn(group, "housekeeping", self._keep_house())
            spawn(group, "leases", keep_running("leases", self.leases.run))
            spawn(group, "state", self.state.run())
            spawn(group, "workers", self._run_workers())
            while True:
                self._sources_changed.clear()
                for settings in self._sources.keys() - set(self._wanted_sources):
                    ended = self._sources.pop(settings)
                    ended.cancel()
                    await asyncio.wait([ended])  # it may have to take back what it exported
                    kept = {name for wanted in self._wanted_sources for name in source_names(wanted)}
                    for name in source_names(settings):
                        self.state.end(name)
                        if name not in kept:  # with other settings: what was known stays until it has synced
                            self.registry.forget(name)
                    if isinstance(settings, ConsulSettings):
                        self.catalog.forget()
                for settings in self._wanted_sources:
                    if settings not in self._sources:
                        source = self._source(settings, await self._writers(settings))
                        run = keep_running(source.name, source.run)
                        self._sources[settings] = spawn(group, source.name, run)
                await self._sources_changed.wait()

    async def _run_workers(self) -> None:
        await self._started.wait()
        if self._pool is not None:
            await self._pool.run()

    def _source(self, settings: SourceSettings, writers: list[Writer]) -> Source:
        if isinstance(settings, ConsulSettings):
            sinks = dict(zip(settings.datacenters, writers, strict=True))
            self._consul = ConsulSource(
                settings, sinks, self.catalog, ThisHost(self.registry, self.answering.engines)
            )
            return self._consul

        def make(sink: Sink) -> Source:
            engine = DockerSource(settings, sink)
            self.lags[engine.name] = engine.lag
            return engine

        return CheckedSource(make, writers[0], self._check_lanes)

    async def _writers(self, settings: SourceSettings) -> list[Writer]:
        if (writers := self._waiting.pop(settings, None)) is None:  # new with a reload
            writers = self._make_writers(settings)
            await self.state.follow(settings, writers)
        return writers

    def _make_writers(self, settings: SourceSettings) -> list[Writer]:
        kind = "consul" if isinstance(settings, ConsulSettings) else "docker"
        return [self.registry.writer(name, kind) for name in source_names(settings)]

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.registry.expire()
            self.answering.keep_house()
            if (config := self._machine.look(self.config)) is not None:
                self._choose(config)

    def _choose(self, config: Config) -> None:
        """Answer by this configuration from now on, here and in workers."""
        self.config = config
        self.answering.choose(choices_of(config))
        if self._pool is not None:
            self._pool.configure(config.log)

    def flush(self, name: str | None) -> int:
        """Forget what others have answered, of a name and all below it or all; how many answers here."""
        if self._pool is not None:
            self._pool.flush(name)
        return self.forwarding.flush(name)

    def reload(self, read: Callable[[], Config]) -> None:
        """Take over what can change while serving; a wrong configuration changes nothing."""
        try:
            config = read()
        except ConfigError as error:
            log.error("not reloaded, the running configuration is kept: %s", error.line)  # noqa: TRY400
            return
        for key in AT_START:
            if reduce(getattr, key, config) != reduce(getattr, key, self.config):
                log.warning("%s has changed: it takes effect at the next start", ".".join(key))
        self._choose(config)
        self.static.reload(config.services)
        self._wanted_sources = sources_of(config)
        self._sources_changed.set()
        logging.getLogger("discoverd").setLevel(config.log.level.upper())
        log.info("reloaded %s", config.path or "the configuration")

    # -- joints ---------------------------------------------------------------------------

    def _counts(self) -> dns.Counts:
        own = dns.Counts(observed=self.handler.observer.read(), lost=sum(s.lost() for s in self.servers))
        if self._pool is not None:
            return self._pool.counts() + own
        return sum((server.counts() for server in self.servers), own)

    def _foreign(self) -> Tally:
        found = self.forwarding.tally()
        if self._pool is not None:
            found.update(self._pool.foreign())
        return found

    def _metrics(self, metrics: Metrics) -> Callable[[], Awaitable[bytes]]:
        async def expose() -> bytes:
            if self._pool is not None:
                await self._pool.count()
            return metrics.expose()

        return expose

    async def _ask_consul(self, lookup: Lookup) -> Fetched | Fail:
        """What only Consul's agent knows."""
        if self._consul is None:
            return Fail("no Consul agent is followed")
        try:
            return await self._consul.look_up(lookup)
        except ConsulError as error:
            return Fail(str(error))
