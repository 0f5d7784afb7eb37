"""The side that answers, from the registry to bytes: joined here once, alike in every process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from discoverd import __version__
from discoverd.catalog import Catalog, Lookup
from discoverd.dns.anew import Anew
from discoverd.dns.denial import Denial
from discoverd.dns.fastpath import Fastpath
from discoverd.dns.forwarding import Forwarding
from discoverd.dns.handler import Handler
from discoverd.dns.ratelimit import RateLimit
from discoverd.dns.server import DnsServer
from discoverd.host import HostAddresses
from discoverd.querylog import QueryLog
from discoverd.querylog import Settings as QueryLogSettings
from discoverd.registry import Registry
from discoverd.resolver.consul import ConsulNames
from discoverd.resolver.elsewhere import is_elsewhere
from discoverd.resolver.forward import Forwarder, Upstream
from discoverd.resolver.local import Local, Settings
from discoverd.resolver.outcome import Fail
from discoverd.thishost import Engines
from discoverd.views import Views

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from discoverd.catalog import Fetched
    from discoverd.dns.cookies import Cookies
    from discoverd.dns.server import Listener
    from discoverd.model import IPAddress, IPNetwork
    from discoverd.registry import Change
    from discoverd.resolver.outcome import Outcome, Question

    LookUp = Callable[[Lookup], Awaitable[Fetched | Fail]]


@dataclass(frozen=True, slots=True)
class Choices:
    """What of the configuration decides answers. Without secrets: it is handed to other processes."""

    settings: Settings = field(default_factory=Settings)
    #: Octets of a reply over UDP; what it was at the start counts.
    udp_size: int = 1232
    allow_transfer: tuple[IPNetwork, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    zones: tuple[tuple[str, tuple[Upstream, ...]], ...] = ()
    #: Answers of others that are kept, and octets that they may take.
    cache: tuple[int, int] = (10_000, 32 << 20)
    #: Replies a second to a network whose addresses may be forged, and which networks' are not.
    rate_limit: int = 0
    rate_limit_exempt: tuple[IPNetwork, ...] = ()
    #: By which a question of ours that comes back is known; 6 octets, drawn anew where it is empty.
    mark: bytes = b""
    #: Who may have other people's names forwarded.
    recursion: tuple[IPNetwork, ...] = ()
    #: Whether names below ``.consul`` are answered, and there whether instances with a warning are not.
    consul: bool = False
    only_passing: bool = False
    #: Source and host, of engines that are reached through a network.
    remote: tuple[tuple[str, str], ...] = ()
    #: What says which server this is; None for the host's name.
    identity: str | None = None
    #: Where answers are noted; what it was at the start counts.
    query_log: QueryLogSettings | None = None


class Answering:
    """A registry and a catalog that somebody else fills, and everything that answers from them."""

    def __init__(self, choices: Choices, cookies: Cookies, look_up: LookUp) -> None:
        """``look_up`` asks Consul's agent what only it knows."""
        self.registry, self.catalog = Registry(), Catalog()
        self.host_addresses = HostAddresses()
        self._host_had: frozenset[IPAddress] = frozenset()
        #: The same as it was read, link-local ones among them.
        self._host_read: frozenset[IPAddress] | None = None
        self.engines = Engines(self.registry, self.host_addresses)
        self.views = Views(self.registry, self.host_addresses, self.engines)
        self.local = Local(self.registry, choices.settings)
        self.local.hosts = self.views.host_of
        self.fastpath = Fastpath(
            choices.udp_size, denial=Denial(self.local), anew=Anew(self.local), cookies=cookies.answers
        )
        self.forwarding = Forwarding(
            Forwarder((), {}), self._look_up, self.fastpath, partial(is_elsewhere, self.local)
        )
        self.handler = Handler(
            self.local,
            self.views,
            self.fastpath,
            version=__version__,
            may_recurse=self._may_recurse,
            allow_transfer=self._may_transfer,
            cookies=cookies,
        )
        #: Before any endpoint is made: which of them serves depends on it.
        self.query_log = QueryLog(choices.query_log) if choices.query_log else None
        self.handler.observer.log = self.query_log
        self.handler.asks = self.forwarding
        self._ask, self._cookies = look_up, cookies
        self.registry.subscribe(self._changed)
        self.catalog.subscribe(self.fastpath.drop)
        self.choices = choices
        self.choose(choices)

    def choose(self, choices: Choices) -> None:
        """Go by these choices from now on."""
        self.choices = replace(choices, udp_size=self.fastpath.udp_size)
        self.local.settings = choices.settings
        self.engines.remote = dict(choices.remote)
        self.local.consul = (
            ConsulNames(self.catalog, only_passing=choices.only_passing) if choices.consul else None
        )
        self.handler.options.identify(choices.identity)
        self.forwarding.forwarder = Forwarder(choices.upstreams, dict(choices.zones), choices.mark)
        self.forwarding.cache.bound(*choices.cache)
        self.handler.rate_limit = self.forwarding.rate_limit = RateLimit(
            choices.rate_limit, choices.rate_limit_exempt, self._cookies
        )
        self.fastpath.clear()
        self.forwarding.changed()

    async def close(self) -> None:
        """Write down what was answered last."""
        if self.query_log is not None:
            await asyncio.to_thread(self.query_log.close)

    def server(self, listeners: Sequence[Listener]) -> DnsServer:
        """What serves these sockets, once it is started."""
        return DnsServer(listeners, self.handler, self.forwarding.take)

    def keep_house(self) -> None:
        """Call this every second: see what has come late, and let go of what nobody needs."""
        self.look_at_host()
        self.fastpath.retired.clear()  # no batch is being answered now

    def look_at_host(self) -> None:
        """Forget answers and views that may rest on addresses that this host had. A container network's own
        address on it may come later than the network, and no source tells of it.
        """
        found = self.host_addresses()
        if found is self._host_read:
            return
        self._host_read = found
        # each container's interface has a link-local address of its own: these come and go all the time
        addresses = frozenset(ip for ip in found if not ip.is_link_local)
        if addresses != self._host_had:
            self._host_had = addresses
            self.fastpath.clear()

    def _changed(self, change: Change) -> None:
        self.forwarding.changed()
        if change.everything:
            self.host_addresses.forget()
            self.fastpath.clear()
            return
        self.fastpath.repeated.forget()
        self.fastpath.drop(change.names)
        self.fastpath.drop_addresses(change.addresses)

    def _may_transfer(self, asker: IPAddress) -> bool:
        return any(asker in network for network in self.choices.allow_transfer)

    def _may_recurse(self, asker: IPAddress) -> bool:
        return self.forwarding.possible and any(asker in network for network in self.choices.recursion)

    async def _look_up(self, question: Question, lookup: object) -> Outcome:
        """Answer what only Consul's agent knows by asking it."""
        names = self.local.consul
        if names is None or not isinstance(lookup, Lookup):
            return Fail("no Consul agent is followed")
        fetched = await self._ask(lookup)
        if isinstance(fetched, Fail):
            return fetched
        return names.answer(question, lookup, fetched)
