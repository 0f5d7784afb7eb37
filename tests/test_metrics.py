"""Names, units and labels of the metrics, and Prometheus' own opinion of them."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.http.have import or_skip
from tests.real.debian import REPO, codename, fetch
from tests.real.rest import request
from tests.real.server import Server

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

#: https://prometheus.io/docs/practices/naming/: these belong to no base unit.
NO_BASE_UNITS = ("_ms", "_milliseconds", "_microseconds", "_minutes", "_kb", "_mb", "_percent")
#: Every label, and what it may say; "source" is one of the configuration's own.
LABELS = {
    "path": "fast|slow|forwarded",
    "protocol": "udp|tcp|https",
    "type": "[A-Z]+|other",
    "rcode": "[A-Z]+|other",
    "view": "network|host|elsewhere",
    "outcome": "written|dropped",
    "reason": "no_query|socket_full|overload|not_sent|connection_limit",
    "le": r"[0-9.e-]+|\+Inf",
    "source": r"[a-z0-9/._:-]+",
    "state": "syncing|live|stale",
    "version": r"[0-9a-z.+]+",
    "route": r"/[a-z0-9_./{}-]*|none",
    "method": "GET|HEAD|POST|PUT|DELETE|other",
    "status": "[1-5][0-9][0-9]",
}


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """What a server says of itself after all sorts of requests."""
    server = Server(tmp_path_factory.mktemp("server"))
    server.wait_listening()
    body = {"service": "web", "addresses": ["10.0.0.1"], "lease": 60}
    assert server.api("/v1/instances/a", "PUT", body).status == 201
    for method, path in (
        ("GET", "/v1/services/web"),
        ("GET", "/no/such"),
        ("BREW", "/no"),
        ("PATCH", "/metrics"),
    ):
        request(method, server.url + path)
    for options in ((), (), (), ("+tcp",)):
        server.dig("web.docker", "A", *options)
    server.dig("nothing.docker", "TYPE65280")
    yield server.api("/metrics").text
    server.close()


@pytest.fixture
def families(exposed: str) -> list[Metric]:
    return list(text_string_to_metric_families(exposed))


def test_names_say_whose_they_are_and_in_which_unit(families: list[Metric]) -> None:
    assert len(families) > 10
    for family in families:
        assert re.fullmatch(r"discoverd_[a-z]+(_[a-z]+)*", family.name), family.name
        assert not family.name.endswith(NO_BASE_UNITS), family.name
        assert family.documentation.endswith("."), family.name
        for sample in family.samples:
            if family.type != "histogram":
                assert sample.name.endswith("_total") == (family.type == "counter"), sample.name


def test_labels_have_few_values(families: list[Metric]) -> None:
    for family in families:
        for sample in family.samples:
            for label, value in sample.labels.items():
                assert re.fullmatch(LABELS[label], value), f"{sample.name} {label}={value}"


def test_requests_leases_and_names_are_counted(exposed: str) -> None:
    for line in (
        'discoverd_http_requests_total{method="PUT",route="/v1/instances/{id}",status="201"} 1.0',
        'discoverd_http_requests_total{method="GET",route="none",status="404"} 1.0',
        'discoverd_http_requests_total{method="other",route="none",status="405"} 1.0',
        "discoverd_leases 1.0",
        "discoverd_leases_expired_total 0.0",
        'discoverd_source_instances{source="registered"} 1.0',
        'discoverd_dns_queries_total{protocol="udp",rcode="NOERROR",type="A",view="host"} 3.0',
        'discoverd_dns_queries_total{protocol="tcp",rcode="NOERROR",type="A",view="host"} 1.0',
        'discoverd_dns_queries_total{protocol="udp",rcode="NXDOMAIN",type="other",view="host"} 1.0',
        'discoverd_dns_dropped_total{reason="socket_full"} 0.0',
    ):
        assert line in exposed.splitlines(), exposed


def test_promtool_finds_nothing_to_say(exposed: str) -> None:
    with or_skip():
        promtool = fetch("prometheus", codename()) / "usr" / "bin" / "promtool"
    done = subprocess.run(
        [promtool, "check", "metrics"], input=exposed, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def described(exposed: str) -> set[str]:
    """The names that queries may use: those of samples, and those that come with the first one."""
    found: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (discoverd_[a-z_]+) ([a-z]+)$", exposed, re.MULTILINE):
        found |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return found


def test_the_alert_rules_are_about_metrics_that_exist(exposed: str) -> None:
    rules = REPO / "examples" / "prometheus" / "alerts.yml"
    used = set(re.findall(r"discoverd_[a-z_]+", rules.read_text()))
    assert used
    assert used <= described(exposed)
    with or_skip():
        promtool = fetch("prometheus", codename()) / "usr" / "bin" / "promtool"
    done = subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 rules found" in done.stdout


def test_the_dashboard_asks_for_metrics_and_labels_that_exist(exposed: str, tmp_path: Path) -> None:
    board = json.loads((REPO / "examples" / "grafana" / "discoverd.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in board["templating"]["list"]]
    text = "\n".join(queries)
    known = described(exposed)
    used = set(re.findall(r"discoverd_[a-z_]+", text))
    assert used <= known
    # nothing that is exposed is left out of the picture but what a board has no use for
    plain = {re.sub("_(bucket|sum|count)$", "", name) for name in known}
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in used}
    assert {name for name in plain - shown if name.startswith("discoverd_dns")} == set()
    labels = {label for group in re.findall(r"by \(([a-z, ]+)\)", text) for label in group.split(", ")}
    assert labels <= LABELS.keys() | {"instance"}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    # promtool reads the queries as those of rules
    rules = [
        {"record": f"q{number}", "expr": re.sub(r"\$__rate_interval", "5m", query)}
        for number, query in enumerate(queries)
        if "(" in query or "{" in query
        if not query.startswith("label_values")
    ]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    with or_skip():
        promtool = fetch("prometheus", codename()) / "usr" / "bin" / "promtool"
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_is_in_the_docs(families: list[Metric]) -> None:
    text = (REPO / "docs" / "metrics.md").read_text()
    for family in families:
        assert f"`{family.name}{'_total' if family.type == 'counter' else ''}`" in text, family.name
