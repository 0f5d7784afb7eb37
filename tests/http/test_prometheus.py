"""A real Prometheus finds its targets through discoverd, and scrapes discoverd itself."""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.http.have import or_skip
from tests.real.debian import codename, fetch
from tests.real.rest import request
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.real.server import Server

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: found
  http_sd_configs:
  - url: {url}/v1/prometheus-sd?service=self
    refresh_interval: 1s
  relabel_configs:
  - {{source_labels: [__meta_discoverd_service], target_label: service}}
  - {{source_labels: [__meta_discoverd_tags], regex: '.*,blue,.*', target_label: blue, replacement: 'yes'}}
"""


@pytest.fixture
def prometheus(server: Server, tmp_path: Path) -> Generator[str]:
    """Its URL."""
    with or_skip():
        # unpacked, not installed: the package would start a service of its own
        program = fetch("prometheus", codename()) / "usr" / "bin" / "prometheus"
    (tmp_path / "prometheus.yml").write_text(CONFIG.format(url=server.url))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "log").open("w") as log:
        flags = {
            "config.file": tmp_path / "prometheus.yml",
            "storage.tsdb.path": tmp_path / "data",
            "web.listen-address": f"127.0.0.1:{port}",
        }
        command = [str(program), *(f"--{name}={value}" for name, value in flags.items())]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


def asked(url: str) -> Any:
    try:
        return request("GET", url).json["data"]
    except (OSError, ValueError):
        return {}


def test_prometheus_finds_registered_instances_and_scrapes_them(server: Server, prometheus: str) -> None:
    body = {
        "service": "self",
        "addresses": ["127.0.0.1"],
        "ports": [server.http_port],
        "tags": ["red", "blue"],
    }
    server.api("/v1/instances/self", "PUT", body)

    def up() -> Any:
        targets = asked(f"{prometheus}/api/v1/targets").get("activeTargets", [])
        return [t for t in targets if t["health"] == "up"]

    (target,) = until(up, timeout=60, message="the target is up")
    assert target["labels"]["service"] == "self"
    assert target["labels"]["blue"] == "yes"
    assert target["scrapeUrl"] == f"http://127.0.0.1:{server.http_port}/metrics"
    query = f"{prometheus}/api/v1/query?query=discoverd_source_instances"
    found = until(lambda: asked(query).get("result"), timeout=30)
    assert {r["metric"]["source"]: r["value"][1] for r in found} == {"static": "5", "registered": "1"}
    server.api("/v1/instances/self", "DELETE")
    until(lambda: not asked(f"{prometheus}/api/v1/targets")["activeTargets"], timeout=30)
