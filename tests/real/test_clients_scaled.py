"""The shipped configurations of programs that stand between clients and a service, on a real engine: traffic
arrives at live instances only, while the service is scaled up and down.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.real import engine as engines
from tests.real.compose import Compose
from tests.real.conftest import TIMEOUT, or_left_out
from tests.real.debian import REPO, need
from tests.real.place import Place, ask
from tests.real.resolved import STUB, Resolved
from tests.real.upstreams import Program
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

    from tests.real.dig import Reply
    from tests.real.session import Session

pytestmark = [pytest.mark.docker, pytest.mark.timeout(TIMEOUT)]

EXAMPLES = REPO / "examples"
#: Each says who it is, by the hostname, which is its id.
PROJECT = """
services:
  web:
    image: {image}
    command: ["sh", "-c", "hostname >/tmp/index.html; exec httpd -f -p 8000 -h /tmp"]
    labels: {{discoverd.ports: "http=8000"}}
    init: true
    stop_grace_period: 2s
"""
#: Requests one after the other, each by a name that is resolved anew; who answered, or what went wrong.
FETCH = """
import sys, urllib.request
for _ in range(int(sys.argv[2])):
    try:
        with urllib.request.urlopen(sys.argv[1], timeout=10) as reply:
            print(reply.read().decode().strip())
    except OSError as error:
        print(getattr(error, "code", error))
"""


class Shop:
    """A host with discoverd as the examples expect it, and a service ``web`` that can be scaled."""

    def __init__(self, session: Session, folder: Path, stack: ExitStack) -> None:
        engine = engines.another(session, "scaled", 2)
        stack.callback(engine.close)
        self.place = Place(engine, folder, stack)
        self.compose = Compose(engine, folder)
        stack.callback(self.compose.close)
        self.server = self.place.serve("--upstream", STUB, listen="127.0.0.1:1053")
        self.compose.up("shop", PROJECT.format(image=engine.image))

    def scale(self, count: int) -> None:
        self.compose.scale("shop", web=count)

    def live(self) -> dict[str, str]:
        """The addresses of the instances that run, as the engine has them, by their short ids."""
        found = self.place.engine.docker("ps", "--quiet", "--filter", "label=com.docker.compose.service=web")
        return {name: self.place.ip(name, "shop_default") for name in found.split()}

    def fetch(self, url: str, count: int, enter: Iterable[str] = ()) -> Counter[str]:
        """Who answers so many requests made on the host, or behind ``enter``."""
        command = [*(enter or self.place.enter), sys.executable, "-c", FETCH, url, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return Counter(done.stdout.split("\n")[:-1])

    def wait_reached(self, look: Callable[[], Iterable[str]], more: Callable[[], str]) -> None:
        """Until exactly the live ones are found."""
        wanted = set(self.live())
        until(
            lambda: set(look()) == wanted,
            message=lambda: f"{wanted} are reached, now {look()}\n{more()}",
            interval=0.2,
        )


@pytest.fixture(scope="module")
def shop(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    with ExitStack() as stack:
        with or_left_out():
            made = Shop(session, tmp_path_factory.mktemp("scaled"), stack)
        yield made


#: How each is started on the host.
NGINX = ("-c", f"{EXAMPLES}/nginx/nginx.conf", "-g", "daemon off; pid {folder}/pid; user root;")
PROXIES = {
    "nginx": ("nginx", "nginx-light", *NGINX, "-p", "{folder}", "-e", "{folder}/error.log"),
    "haproxy, SRV": ("haproxy", "haproxy", "-db", "-f", f"{EXAMPLES}/haproxy/haproxy.cfg"),
}
FRONT = "http://127.0.0.1:8080/"


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_sends_traffic_to_live_instances_only(shop: Shop, tmp_path: Path, name: str) -> None:
    shop.scale(2)
    command, package, *words = PROXIES[name]
    with or_left_out():
        program = need(command, package)
    words = [word.replace("{folder}", str(tmp_path)) for word in words]
    with Program(tmp_path, "127.0.0.1", 8080, *shop.place.enter, program, *words) as proxy:

        def wait() -> None:
            shop.wait_reached(lambda: shop.fetch(FRONT, 12), lambda: proxy.output + shop.server.log_text)

        wait()
        for count in (3, 1, 2):
            shop.scale(count)
            wait()
        assert set(shop.fetch(FRONT, 30)) == set(shop.live())


def test_unbound_forwards_the_domain(shop: Shop, tmp_path: Path) -> None:
    with or_left_out():
        program = need("unbound", "unbound")
    assert program


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
    assert look("_http._tcp.web.docker").nodata
    assert look("nobody.docker").status == "NXDOMAIN"


def test_systemd_resolved_forwards_the_domain(shop: Shop, tmp_path: Path) -> None:
    with or_left_out():
        resolved = Resolved(tmp_path, shop.place.enter, EXAMPLES / "resolved" / "discoverd.conf")
    try:
        resolved.wait_started()
        print(resolved.ctl("status"))
        wait_scaled(shop, lambda name: ask(shop.place.enter, STUB, 53, name, "A"), resolved.enter)
    finally:
        resolved.close()
