"""Names, units and labels of the metrics, and Prometheus' own opinion of them."""

from __future__ import annotations

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

    from prometheus_client.metrics_core import Metric

#: https://prometheus.io/docs/practices/naming/: these belong to no base unit.
NO_BASE_UNITS = ("_ms", "_milliseconds", "_microseconds", "_minutes", "_kb", "_mb", "_percent")
#: Every label, and what it may say; "source" is one of the configuration's own.
LABELS = {
    "path": "fast|slow",
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
    ):
        assert line in exposed.splitlines(), exposed


def test_promtool_finds_nothing_to_say(exposed: str) -> None:
    with or_skip():
        promtool = fetch("prometheus", codename()) / "usr" / "bin" / "promtool"
    done = subprocess.run(
        [promtool, "check", "metrics"], input=exposed, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_alert_rules_are_about_metrics_that_exist(exposed: str) -> None:
    rules = REPO / "examples" / "alerts.yml"
    used = set(re.findall(r"discoverd_[a-z_]+", rules.read_text()))
    assert used
    assert used <= set(re.findall(r"^discoverd_[a-z_]+", exposed, re.MULTILINE))
    with or_skip():
        promtool = fetch("prometheus", codename()) / "usr" / "bin" / "promtool"
    done = subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 rules found" in done.stdout
