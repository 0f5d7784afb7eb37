"""What is counted of a real engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.conftest import Containers
    from tests.real.engine import Engine
    from tests.real.server import Server


def value(server: Server, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(server.api("/metrics").text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    return 0


def test_from_an_event_to_the_answers(
    engine: Engine,
    containers: Containers,
    discoverd: Callable[..., Server],
    unique: Callable[[str], str],
    record_property: Callable[[str, object], None],
) -> None:
    server = discoverd(docker=engine)
    server.wait_source("live")
    source = {"source": str(server.source()["name"])}
    took = "discoverd_source_event_to_answer_seconds"
    before = value(server, f"{took}_count", **source)
    name = unique("measured")
    containers.run(name)
    until(lambda: server.dig(f"{name}.docker").data)
    until(lambda: value(server, f"{took}_count", **source) > before)
    seconds = value(server, f"{took}_sum", **source)
    count = value(server, f"{took}_count", **source)
    assert 0 < seconds < 60 * count
    assert value(server, f"{took}_bucket", le="+Inf", **source) == count
    assert value(server, "discoverd_source_state", state="live", **source) == 1
    assert value(server, "discoverd_dns_queries_total", view="host", type="A", rcode="NOERROR") >= 1
    record_property("measured from an event to the answers, seconds", f"{seconds / count:.3f}")
