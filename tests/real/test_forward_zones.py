"""Zones of one's own at real servers: a Consul agent, two servers of a company, reverse names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.real.conftest import or_left_out
from tests.real.server import Server
from tests.real.upstreams import dnsmasq
from tests.wait import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.consul import ConsulAgent

CONFIG = """
[forward]
upstreams = ["{everyone}"]

[forward.zones]
"consul" = ["127.0.0.1:{consul}"]
"corp.example" = ["{one}", "{other}"]
"lab.corp.example" = ["{everyone}"]
"1.168.192.in-addr.arpa" = ["{other}"]
"ads.example" = []
"""


def test_each_zone_is_asked_of_its_servers(tmp_path: Path, consul_agent: ConsulAgent) -> None:
    with or_left_out():
        one, other = (
            dnsmasq(tmp_path / name, "--host-record=www.corp.example,192.168.1.7,60")
            for name in ("one", "other")
        )
        everyone = dnsmasq(tmp_path / "everyone", "--address=/example/198.51.100.1")
    with one, other, everyone:
        for each in (one, other):
            each.wait_answers("www.corp.example")
        everyone.wait_answers("www.example")
        where = {"one": one.where, "other": other.where, "everyone": everyone.where}
        config = CONFIG.format(**where, consul=consul_agent.dns_port)
        server = Server(tmp_path / "discoverd", config=config, env={"DISCOVERD_UPSTREAM": ""})
        try:
            server.wait_listening()
            until(
                lambda: server.dig("consul.service.consul").addresses == {"127.0.0.1"},
                message=lambda: server.dig("consul.service.consul").text,
            )
            assert server.dig("nobody.service.consul").nxdomain
            assert server.dig("www.corp.example").addresses == {"192.168.1.7"}
            assert server.dig("www.lab.corp.example").addresses == {"198.51.100.1"}, "the longest match"
            assert server.dig("www.ads.example").nxdomain
            assert server.dig("7.1.168.192.in-addr.arpa", "PTR").data == ["www.corp.example."]
            assert server.dig("7.2.168.192.in-addr.arpa", "PTR").nxdomain, "that one is nobody's business"
            # its other server answers for a zone; nobody else is asked about it
            one.close()
            assert server.api("/v1/cache", "DELETE").status == 200
            assert server.dig("www.corp.example").addresses == {"192.168.1.7"}
            other.close()
            assert server.api("/v1/cache", "DELETE").status == 200
            assert server.dig("www.corp.example").status == "SERVFAIL"
            assert server.dig("www.example").addresses == {"198.51.100.1"}
        finally:
            server.close()
