"""What is counted, in Prometheus' words. Counters of the hot path are plain integers read at a scrape."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from discoverd import __version__, forwardmetrics
from discoverd.dns.hits import TYPES
from discoverd.dns.observer import BOUNDS
from discoverd.model import SourceState
from discoverd.sources.base import LAG_BOUNDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from discoverd.dns.forwarding import Tally
    from discoverd.dns.observer import Observed
    from discoverd.dns.server import Counts
    from discoverd.registry import Registry
    from discoverd.sources.base import Lag
    from discoverd.sources.leases import LeaseSource

#: What sources count by themselves and say with their status.
DETAILS = {
    "events": "Events of an engine that asked for something.",
    "reconnects": "Event streams that were opened after the first one.",
    "inspects": "Containers that were inspected.",
    "outages": "Times that Consul's agent went out of reach.",
    "resets": "Indexes of Consul's that went back.",
}
#: By number; any other is "other".
RCODES = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 9: "NOTAUTH",
    16: "BADVERS", 23: "BADCOOKIE",
}  # fmt: skip
NANO = 1e-9


class Metrics:
    """Collects from the registry and the server when asked, so that counting costs nothing in between."""

    def __init__(
        self,
        registry: Registry,
        counts: Callable[[], Counts],
        leases: LeaseSource,
        lags: Mapping[str, Lag] = MappingProxyType({}),
    ) -> None:
        """``counts`` gives what all processes that answer have counted, ``lags`` are by source."""
        self._registry, self._counts, self._leases, self._lags = registry, counts, leases, lags
        #: Of the workers, where there are any: how many answer, and how many have died.
        self.workers: Callable[[], tuple[int, int]] = lambda: (0, 0)
        #: Of other people's names, in all processes.
        self.foreign: Callable[[], Tally] = Counter
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
        yield from forwardmetrics.collect(self.foreign())
        yield from self._of_http()

    def _of_server(self) -> Iterator[Metric]:
        counts = self._counts()
        yield from _of_answers(counts.observed)
        paths = CounterMetricFamily(
            "discoverd_dns_udp_queries",
            "UDP queries by path: fast is from what is prebuilt.",
            labels=["path"],
        )
        paths.add_metric(["fast"], counts.fast)
        paths.add_metric(["slow"], counts.slow)
        yield paths
        dropped = CounterMetricFamily(
            "discoverd_dns_dropped",
            "What was not answered: messages that are no query, queries that found the socket full or"
            " were left out when there were too many, replies that the socket did not take, TCP connections"
            " beyond the limits.",
            labels=["reason"],
        )
        dropped.add_metric(["no_query"], counts.observed.no_query)
        dropped.add_metric(["socket_full"], counts.lost)
        dropped.add_metric(["overload"], counts.shed)
        dropped.add_metric(["not_sent"], counts.dropped)
        dropped.add_metric(["connection_limit"], counts.refused)
        yield dropped
        yield GaugeMetricFamily(
            "discoverd_dns_tcp_connections",
            "Open TCP connections.",
            value=counts.connections,
        )
        written, lost = counts.observed.logged
        entries = CounterMetricFamily(
            "discoverd_query_log_entries",
            "Entries of the query log by what became of them.",
            labels=["outcome"],
        )
        entries.add_metric(["written"], written)
        entries.add_metric(["dropped"], lost)
        yield entries
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
        details = {
            key: CounterMetricFamily(f"discoverd_source_{key}", text, labels=["source"])
            for key, text in DETAILS.items()
        }
        for status in self._registry.statuses():
            for each in SourceState:
                state.add_metric([status.name, each.value], float(status.state is each))
            instances.add_metric([status.name], self._registry.count(status.name))
            if status.last_sync is not None:
                synced.add_metric([status.name], status.last_sync)
            for key, family in details.items():
                if isinstance(value := status.detail.get(key), int):
                    family.add_metric([status.name], value)
        yield from (state, instances, synced, *details.values())
        lag = HistogramMetricFamily(
            "discoverd_source_event_to_answer_seconds",
            "From reading an event of an engine until what came of it is in the answers.",
            labels=["source"],
        )
        for name, measured in sorted(self._lags.items()):
            lag.add_metric([name], _buckets(LAG_BOUNDS, measured.buckets), measured.total)
        yield lag
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


def _of_answers(observed: Observed) -> Iterator[Metric]:
    queries = CounterMetricFamily(
        "discoverd_dns_queries",
        "Answered queries by protocol, type, rcode, and where the asker is.",
        labels=["protocol", "type", "rcode", "view"],
    )
    for (protocol, qtype, rcode, view), count in sorted(observed.answers.items()):
        labels = [protocol, TYPES.get(qtype, "other"), RCODES.get(rcode, "other"), view]
        queries.add_metric(labels, count)
    yield queries
    durations = HistogramMetricFamily(
        "discoverd_dns_query_duration_seconds",
        "Time to an answer: by the batch from prebuilt replies, by the resolver, by who it was forwarded to.",
        labels=["path"],
    )
    bounds = [bound * NANO for bound in BOUNDS]
    for path, (buckets, total) in sorted(observed.durations.items()):
        durations.add_metric([path], _buckets(bounds, buckets), total * NANO)
    yield durations


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """As the exposition format wants them: each with all that is below it, the last with everything."""
    names = [*(f"{bound:.10g}" for bound in bounds), "+Inf"]
    return list(zip(names, map(float, accumulate(counts)), strict=True))
