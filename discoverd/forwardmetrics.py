"""What is counted of other people's names, in Prometheus' words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from discoverd.dns.forwarding import Tally

#: What is tallied, the metric, what it means.
GAUGES: Final = (
    ("entries", "discoverd_cache_entries", "Answers of others that are kept."),
    ("octets", "discoverd_cache_bytes", "Memory that kept answers take, roughly."),
    ("in flight", "discoverd_forward_in_flight", "Different questions that others are being asked."),
)
COUNTERS: Final = (
    ("hits", "discoverd_cache_hits", "Questions answered from what is kept."),
    ("misses", "discoverd_cache_misses", "Questions that others had to be asked for."),
    ("stale", "discoverd_cache_stale_answers", "Answers given beyond their time, for want of fresh ones."),
    ("evicted", "discoverd_cache_evictions", "Kept answers that others took the room of."),
    ("prefetched", "discoverd_cache_prefetches", "Answers fetched anew before their time was over."),
    ("rejected", "discoverd_forward_rejected", "Questions beyond what may be under way at once."),
    ("failed", "discoverd_forward_failures", "Questions that nobody had an answer to."),
    ("loops", "discoverd_forward_loops", "Questions of our own that came back."),
    ("dropped", "discoverd_rate_limited_dropped", "Questions beyond the rate that got no reply."),
    ("truncated", "discoverd_rate_limited_truncated", "Questions beyond the rate that got TC."),
    ("private", "discoverd_forward_private", "Questions for names that never leave this machine."),
)
OF_SERVERS: Final = (
    ("sent", "discoverd_forward_queries", "Queries to an upstream server."),
    ("answered", "discoverd_forward_replies", "Replies of an upstream server."),
    ("unanswered", "discoverd_forward_unanswered", "Questions that an upstream server did not answer."),
)


def collect(tally: Tally) -> Iterator[Metric]:
    for key, name, text in GAUGES:
        yield GaugeMetricFamily(name, text, value=tally[key, ""])
    for key, name, text in COUNTERS:
        yield CounterMetricFamily(name, text, value=tally[key, ""])
    servers = sorted({server for _, server in tally if server})
    for key, name, text in OF_SERVERS:
        counter = CounterMetricFamily(name, text, labels=["server"])
        for server in servers:
            counter.add_metric([server], tally[key, server])
        yield counter
    up = GaugeMetricFamily(
        "discoverd_forward_up", "Processes that take an upstream server for up.", labels=["server"]
    )
    for server in servers:
        up.add_metric([server], tally["up", server])
    yield up
