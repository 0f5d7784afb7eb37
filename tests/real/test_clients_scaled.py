"""The shipped configurations of programs that stand between clients and a service, on a real engine: traffic
arrives at live instances only, while the service is scaled up and down.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.real.conftest import TIMEOUT, or_left_out
from tests.real.debian import REPO, need
from tests.real.later import later
from tests.real.resolved import STUB, Resolved
from tests.real.scaled import Load, Shop
from tests.real.upstreams import UNBOUND, Program, dnsmasq
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

    from tests.real.dig import Reply
    from tests.real.session import Session

pytestmark = [pytest.mark.docker, pytest.mark.timeout(TIMEOUT)]

EXAMPLES = REPO / "examples"


@pytest.fixture(scope="module")
def shop(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    with ExitStack() as stack:
        with or_left_out():
            made = Shop(session, tmp_path_factory.mktemp("scaled"), stack, 2, STUB)
        yield made


#: How each is started on the host: its example, a change of that, and options.
NGINX_FOLDERS = ("-p", "{folder}", "-e", "{folder}/error.log")
NGINX = ("-c", "{config}", "-g", "daemon off; pid {folder}/pid; user root;", *NGINX_FOLDERS)
HAPROXY = ("-db", "-f", "{config}")
BY_SRV, BY_ADDRESS = "_http._tcp.web.docker resolvers", "web.docker:8000 resolvers"
PROXIES: dict[str, tuple[str, tuple[str, str], tuple[str, ...]]] = {
    "nginx": ("nginx/nginx.conf", ("", ""), NGINX),
    "nginx, upstream by SRV": ("nginx/nginx-upstream.conf", ("", ""), NGINX),
    "nginx, upstream by A": ("nginx/nginx-upstream.conf", ("docker service=http", "docker:8000"), NGINX),
    "haproxy, SRV": ("haproxy/haproxy.cfg", ("", ""), HAPROXY),
    "haproxy, A": ("haproxy/haproxy.cfg", (BY_SRV, BY_ADDRESS), HAPROXY),
}
FRONT = "http://127.0.0.1:8080/"


def proxy_program(name: str) -> tuple[str, ...]:
    """What starts a proxy; NGINX re-resolves the names of an upstream from 1.27.3 on."""
    if "upstream" in name:
        return later("nginx", "nginx", "forky", "libssl3t64")
    return (need("nginx", "nginx-light"),) if name == "nginx" else (need("haproxy", "haproxy"),)


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_sends_traffic_to_live_instances_only(shop: Shop, tmp_path: Path, name: str) -> None:
    shop.scale(2)
    example, (old, new), words = PROXIES[name]
    with or_left_out():
        program = proxy_program(name)
    text = (EXAMPLES / example).read_text()
    assert old in text
    config = tmp_path / "config"
    config.write_text(text.replace(old, new) if old else text)
    words = tuple(word.format(folder=tmp_path, config=config) for word in words)
    with Program(tmp_path, "127.0.0.1", 8080, *shop.place.enter, *program, *words) as proxy:

        def wait() -> None:
            shop.wait_reached(lambda: shop.fetch(FRONT, 12), lambda: proxy.output + shop.server.log_text)

        wait()
        with Load(shop, tmp_path, FRONT) as load:
            for count in (3, 1, 2):
                load.begin()
                shop.scale(count)
                wait()
                load.assert_clean()


def wait_scaled(shop: Shop, look: Callable[[str], Reply], enter: Iterable[str]) -> None:
    """A forwarder's answers follow the service, and who has it as resolver reaches live ones only."""
    for count in (2, 3, 0, 1):
        shop.scale(count)
        live = shop.live()
        until(
            lambda: look("web.docker").addresses == set(live.values()),  # noqa: B023
            message=lambda: f"{live} is answered, now {look('web.docker').text}",  # noqa: B023
            interval=0.1,
        )
        if live:
            assert set(shop.fetch("http://web.docker:8000/", 6, enter)) <= set(live)
    assert look("nobody.docker").status == "NXDOMAIN"


def resolving(folder: Path, shop: Shop, address: str) -> tuple[str, ...]:
    """What to put before a command to run it on the host with this address in resolv.conf."""
    resolv_conf = folder / "resolv.conf"
    resolv_conf.write_text(f"nameserver {address}\n")
    mounted = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    return (*shop.place.enter, "unshare", "--mount", "sh", "-c", mounted, str(resolv_conf))


def test_unbound_forwards_the_domain(shop: Shop, tmp_path: Path) -> None:
    with or_left_out():
        program = need("unbound", "unbound")
    zones = f'include: "{EXAMPLES}/unbound/unbound.conf"'
    (tmp_path / "unbound.conf").write_text(UNBOUND.format(port=53, folder=tmp_path, more="", zones=zones))
    command = (*shop.place.enter, program, "-d", "-c", str(tmp_path / "unbound.conf"))
    with Program(tmp_path, "127.0.0.1", 53, *command):
        wait_scaled(shop, shop.place.host, resolving(tmp_path, shop, "127.0.0.1"))
        shop.scale(1)
        until(lambda: shop.place.host("_http._tcp.web.docker", "SRV").answer, message="SRV as well")


LOCAL = ("--host-record=www.example.org,203.0.113.7", "--local=/example.org/")
GLOBAL = "[Resolve]\nDNS=127.0.0.1:1053\nDomains=~docker\n"


@contextmanager
def resolved_with(shop: Shop, folder: Path, drop_in: str = "") -> Generator[Resolved]:
    """systemd-resolved on the host, whose network has a name server of its own."""
    namespace = shop.place.daemon.namespace
    assert namespace
    with ExitStack() as stack:
        with or_left_out():
            lan = stack.enter_context(dnsmasq(folder / "lan", *LOCAL, host=namespace.gateway, port=53))
            resolved = Resolved(folder, shop.place.enter, drop_in)
        stack.callback(resolved.close)
        lan.wait_answers("www.example.org")
        resolved.wait_started()
        resolved.run("resolvectl", "dns", "eth0", namespace.gateway)
        yield resolved


def test_systemd_resolved_forwards_the_domain_and_nothing_else(shop: Shop, tmp_path: Path) -> None:
    """discoverd asks systemd-resolved in turn, as /etc/resolv.conf says on such machines."""
    unit = (EXAMPLES / "resolved" / "discoverd-resolved.service").read_text()
    with resolved_with(shop, tmp_path) as resolved:
        for line in unit.splitlines():
            if line.startswith("ExecStart="):
                resolved.run(*line.removeprefix("ExecStart=").split())
        try:

            def look(name: str) -> Reply:
                return shop.place.host(name, server=STUB)

            wait_scaled(shop, look, resolved.enter)
            for reply in (look("www.example.org"), shop.place.host("www.example.org", port=1053)):
                assert reply.addresses == {"203.0.113.7"}, reply.text
            for reply in (look("no.example.org"), shop.place.host("none.example.org", port=1053)):
                assert reply.status == "NXDOMAIN", reply.text
            assert "no answer" not in shop.server.log_text
        finally:
            resolved.run("ip", "link", "del", "discoverd")


def test_a_circle_with_systemd_resolved_is_found(shop: Shop, tmp_path: Path) -> None:
    """As a global server discoverd is asked everything, and waits for who asks."""
    with resolved_with(shop, tmp_path, GLOBAL) as resolved:
        assert shop.place.host("www.example.org", server=STUB).addresses == {"203.0.113.7"}
        shop.place.host("none.example.org", server=STUB)
        told = f"a loop: what is asked of {STUB}:53 (none.example.org) comes back here"
        until(lambda: told in shop.server.log_text, message=lambda: shop.server.log_text + resolved.log)
        # nobody waits any more for names of that domain
        for name, status in (("www.example.org", "NOERROR"), ("again.example.org", "NXDOMAIN")):
            assert shop.place.host(name, server=STUB).status == status
        assert shop.server.log_text.count("no answer") == 1, shop.server.log_text
