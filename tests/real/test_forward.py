"""Forwarding to real name servers: Unbound, dnsmasq and NSD, by UDP, TCP and TLS, well and unwell."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.real.conftest import or_left_out
from tests.real.dig import dig
from tests.real.nsd import free_port
from tests.real.server import Server
from tests.real.upstreams import certificate, dnsmasq, unbound
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.real.upstreams import Program

#: Names that two servers tell apart by what they say of them.
MANY = 120


@pytest.fixture
def resolver(tmp_path: Path) -> Iterator[Program]:
    """Unbound with a zone of its own: an address, an alias, a set too large for UDP, nothing else."""
    many = "\n".join(f'  local-data: "many.example.org. 300 A 198.51.100.{i}"' for i in range(1, MANY + 1))
    with or_left_out():
        made = unbound(
            tmp_path / "unbound",
            'local-zone: "example.org." static',
            'local-data: "example.org. 600 SOA ns.example.org. root.example.org. 1 3600 600 86400 60"',
            'local-data: "www.example.org. 300 A 198.51.100.1"',
            "local-data: 'www.example.org. 300 TXT \"as it is\"'",
            'local-data: "_http._tcp.example.org. 300 SRV 1 2 80 www.example.org."',
            'local-data: "mail.example.org. 300 MX 10 www.example.org."',
            many.strip(),
        )
    with made:
        made.wait_answers("www.example.org")
        yield made


def test_answers_are_those_of_the_server_that_is_asked(tmp_path: Path, resolver: Program) -> None:
    server = Server(tmp_path / "discoverd", "--upstream", resolver.where)
    try:
        server.wait_listening()
        for name, rtype in (
            ("www.example.org", "A"), ("www.example.org", "TXT"), ("www.example.org", "AAAA"),
            ("_http._tcp.example.org", "SRV"), ("mail.example.org", "MX"), ("nobody.example.org", "A"),
            ("example.org", "SOA"),
        ):  # fmt: skip
            for options in (("+nocookie",), ("+noedns",), ("+nocookie", "+tcp"), ("+nocookie", "+dnssec")):
                direct = dig("127.0.0.1", resolver.port, name, rtype, *options)
                for _ in range(2):  # from the server, and from what is kept
                    through = server.dig(name, rtype, *options)
                    assert through.status == direct.status
                    assert through.flags - {"aa"} == direct.flags - {"aa"}
                    assert through.question == direct.question
                    assert [(r.name, *r[2:]) for r in through.answer] == [
                        (r.name, *r[2:]) for r in direct.answer
                    ]
                    assert all(0 < r.ttl <= 600 for r in through.answer)
                    assert [r[2:] for r in through.authority] == [r[2:] for r in direct.authority]
        cut = server.dig("many.example.org", "A", "+ignore")
        assert "tc" in cut.flags
        assert len(server.dig("many.example.org").answer) == MANY
        metrics = server.api("/metrics").text
        assert f'discoverd_forward_up{{server="{resolver.where}"}} 1.0' in metrics
        assert server.api("/v1/cache/mail.example.org", "DELETE").json["flushed"] >= 1
    finally:
        server.close()


def test_dns_over_tls_to_the_right_name_only(tmp_path: Path) -> None:
    made, key = certificate(tmp_path / "certificate", "dns.test", "127.0.0.1")
    plain, secure = free_port(), free_port()
    zone = 'local-data: "www.example.org. 300 A 198.51.100.1"'
    with or_left_out():
        resolver = unbound(
            tmp_path / "unbound",
            f"interface: 127.0.0.1@{secure}",
            f"tls-port: {secure}",
            f'tls-service-key: "{key}"',
            f'tls-service-pem: "{made}"',
            zone,
            port=plain,
        )
    with resolver:
        resolver.wait_answers("www.example.org")
        for number, (suffix, authority, right) in enumerate((
            ("#dns.test", made, True), ("", made, True),
            ("#other.test", made, False), ("#dns.test", None, False),
        )):  # fmt: skip
            config = f'[forward]\nupstreams = ["tls://127.0.0.1:{secure}{suffix}"]\n'
            config += f'tls_ca = "{authority}"\n' if authority else ""
            env = {"DISCOVERD_UPSTREAM": ""}
            server = Server(tmp_path / f"discoverd{number}", config=config, env=env)
            try:
                server.wait_listening()
                reply = server.dig("www.example.org")
                assert reply.status == ("NOERROR" if right else "SERVFAIL"), server.log_text
                assert ("its certificate is not right" in server.log_text) is not right
            finally:
                server.close()


def test_a_server_goes_and_comes_back(tmp_path: Path) -> None:
    """Another one answers meanwhile; with none, what was answered before."""
    with or_left_out():
        first = dnsmasq(tmp_path / "first", "--address=/example.org/198.51.100.1", "--local-ttl=1")
        second = dnsmasq(tmp_path / "second", "--address=/example.org/198.51.100.1", "--local-ttl=1")
    with first, second:
        for each in (first, second):
            each.wait_answers("example.org")
        server = Server(tmp_path / "discoverd", "--upstream", first.where, "--upstream", second.where)
        try:
            server.wait_listening()
            assert server.dig("www.example.org").addresses == {"198.51.100.1"}
            first.close()
            for number in range(5):
                assert server.dig(f"n{number}.example.org").addresses == {"198.51.100.1"}
            second.close()

            def answered_from_old() -> bool:
                assert server.dig("www.example.org").addresses == {"198.51.100.1"}
                return "discoverd_cache_stale_answers_total 0.0" not in server.api("/metrics").text

            until(answered_from_old, message="the old answer is given, its second is over")
            assert server.dig("never.example.org").status == "SERVFAIL"
            first.start()
            first.wait_answers("example.org")
            until(
                lambda: server.dig("never.example.org").addresses == {"198.51.100.1"},
                message="it is asked again",
            )
        finally:
            server.close()


def test_loops_through_real_forwarders_are_found(tmp_path: Path) -> None:
    """dnsmasq leaves discoverd's mark alone, Unbound takes it away."""
    port = free_port()
    with or_left_out():
        dull = dnsmasq(tmp_path / "dnsmasq", f"--server=127.0.0.1#{port}")
        deaf = unbound(
            tmp_path / "unbound", zones=f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{port}\n'
        )
    with dull, deaf:
        for each in (dull, deaf):
            where = f"127.0.0.1:{port}"
            server = Server(tmp_path / f"discoverd{each.port}", "--upstream", each.where, listen=where)
            try:
                server.wait_listening()
                wait_looped(server, each.where)
            finally:
                server.close()


def wait_looped(server: Server, where: str) -> None:
    told = f"a loop: what is asked of {where} (www.example.org) comes back here"

    def found() -> bool:
        assert server.dig("www.example.org").status == "SERVFAIL"
        return told in server.log_text

    until(found, message=lambda: f"the loop is named in the log:\n{server.log_text}", interval=0.3)


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to have a resolv.conf and port 53 of one's own")
def test_the_machines_name_servers_are_followed(tmp_path: Path) -> None:
    """As when a laptop changes networks: the file is written anew, in place as by Docker."""
    with or_left_out():
        home = dnsmasq(tmp_path / "home", "--address=/example.org/198.51.100.1", host="127.53.6.1", port=53)
        away = dnsmasq(tmp_path / "away", "--address=/example.org/198.51.100.2", host="127.53.6.2", port=53)
    with home, away:
        for each in (home, away):
            each.wait_answers("example.org")
        resolv = tmp_path / "resolv.conf"
        resolv.write_text("nameserver 127.53.6.1\n")
        mounted = (
            "unshare",
            "--mount",
            "sh",
            "-c",
            'mount --bind "$0" /etc/resolv.conf && exec "$@"',
            str(resolv),
        )
        server = Server(tmp_path / "discoverd", prefix=mounted, env={"DISCOVERD_UPSTREAM": ""})
        try:
            server.wait_listening()
            assert server.dig("www.example.org").addresses == {"198.51.100.1"}
            resolv.write_text("search lan\nnameserver 127.53.6.2\n")
            server.wait_answer("www.example.org", {"198.51.100.2"})
            assert "name servers have changed: other names are asked of 127.53.6.2:53" in server.log_text
        finally:
            server.close()
