"""What is counted, in Prometheus' words. Counters of the hot path are plain integers read at a scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from discoverd import __version__
from discoverd.model import SourceState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from discoverd.dns.server import Counts
    from discoverd.registry import Registry
    from discoverd.sources.leases import LeaseSource


class Metrics:
    """Collects from the registry and the server when asked, so that counting costs nothing in between."""

    def __init__(self, registry: Registry, counts: Callable[[], Counts], leases: LeaseSource) -> None:
        """``counts`` gives what all processes that answer have counted."""
        self._registry, self._counts, self._leases = registry, counts, leases
        #: Of the workers, where there are any: how many answer, and how many have died.
        self.workers: Callable[[], tuple[int, int]] = lambda: (0, 0)
        #: Of the HTTP side, where there is one: answers by (route, method, status), open event streams.
        self.requests: Mapping[tuple[str, str, int], int] = {}
        self.streams: Collection[object] = ()
        self._collectors = CollectorRegistry(auto_describe=False)
        self._collectors.register(self)

    def expose(self) -> bytes:
        """The text exposition format, version 0.0.4."""
        return generate_latest(self._collectors)

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("discoverd_build_info", "1 for the version that runs.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield from self._of_server()
        yield from self._of_registry()
        yield from self._of_leases()
        yield from self._of_http()

    def _of_server(self) -> Iterator[Metric]:
        counts = self._counts()
        queries = CounterMetricFamily("discoverd_dns_udp_queries", "UDP queries by path.", labels=["path"])
        queries.add_metric(["fast"], counts.fast)
        queries.add_metric(["slow"], counts.slow)
        yield queries
        yield CounterMetricFamily(
            "discoverd_dns_udp_dropped_replies",
            "Replies that the socket did not take.",
            value=counts.dropped,
        )
        yield GaugeMetricFamily(
            "discoverd_dns_tcp_connections",
            "Open TCP connections.",
            value=counts.connections,
        )
        yield CounterMetricFamily(
            "discoverd_dns_tcp_refused_connections",
            "TCP connections beyond the limits.",
            value=counts.refused,
        )
        answering, deaths = self.workers()
        yield GaugeMetricFamily("discoverd_workers", "Worker processes that answer.", value=answering)
        yield CounterMetricFamily(
            "discoverd_worker_deaths", "Worker processes that ended unasked.", value=deaths
        )

    def _of_registry(self) -> Iterator[Metric]:
        state = GaugeMetricFamily(
            "discoverd_source_state", "1 for the state a source is in.", labels=["source", "state"]
        )
        instances = GaugeMetricFamily(
            "discoverd_source_instances", "Instances a source knows.", labels=["source"]
        )
        synced = GaugeMetricFamily(
            "discoverd_source_last_sync_timestamp_seconds", "Unix time of the last sync.", labels=["source"]
        )
        for status in self._registry.statuses():
            for each in SourceState:
                state.add_metric([status.name, each.value], float(status.state is each))
            instances.add_metric([status.name], self._registry.count(status.name))
            if status.last_sync is not None:
                synced.add_metric([status.name], status.last_sync)
        yield state
        yield instances
        yield synced
        yield CounterMetricFamily(
            "discoverd_registry_mass_removals",
            "Refreshes that removed most of a large source at once.",
            value=self._registry.mass_removals,
        )
        yield GaugeMetricFamily(
            "discoverd_registry_names", "Names that have instances.", value=len(self._registry.names)
        )

    def _of_leases(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "discoverd_leases", "Registered instances with a lease.", value=self._leases.leases
        )
        yield CounterMetricFamily(
            "discoverd_leases_expired", "Leases that ended without a renewal.", value=self._leases.expired
        )

    def _of_http(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "discoverd_http_requests", "HTTP requests answered.", labels=["route", "method", "status"]
        )
        for (route, method, status), count in sorted(self.requests.items()):
            requests.add_metric([route, method, str(status)], count)
        yield requests
        yield GaugeMetricFamily(
            "discoverd_http_event_streams", "Open event streams.", value=len(self.streams)
        )
