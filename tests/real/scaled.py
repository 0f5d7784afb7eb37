"""A service on a Docker host that is scaled up and down, and requests that ask who answers."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Self

from tests.real import engine as engines
from tests.real.compose import Compose
from tests.real.place import Place
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import ExitStack
    from pathlib import Path

    from tests.real.session import Session

#: Each says who it is, by the hostname, which is its id.
PROJECT = """
services:
  web:
    image: {image}
    command: ["sh", "-c", "hostname >/tmp/index.html; httpd -p 8000 -h /tmp; {wait}"]
    labels: {{discoverd.ports: "http=8000"}}
    stop_grace_period: 10s
"""
#: Until it is told to end, and then as long as a program takes that finishes its work.
WAIT = "trap 'sleep 3; exit' TERM; sleep 2147483647 & wait"
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

    def __init__(self, session: Session, folder: Path, stack: ExitStack, number: int, upstream: str) -> None:
        engine = engines.another(session, f"scaled{number}", number)
        stack.callback(engine.close)
        self.place = Place(engine, folder, stack)
        self.compose = Compose(engine, folder)
        stack.callback(self.compose.close)
        self.server = self.place.serve("--upstream", upstream, listen="127.0.0.1:1053")
        self.compose.up("shop", PROJECT.format(image=engine.image, wait=WAIT))

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


class Load:
    """Requests to a proxy without a pause, while its service is scaled: each must be answered."""

    def __init__(self, shop: Shop, folder: Path, url: str) -> None:
        self._shop, self._log = shop, folder / "load"
        command = [*shop.place.enter, sys.executable, "-u", "-c", FETCH, url, str(10**9)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log)
        self._seen, self._before = 0, set[str]()

    def _lines(self) -> list[str]:
        return self._log.read_text().split("\n")[:-1]

    def begin(self) -> None:
        """What comes from now on is looked at, and who lives now may answer."""
        until(lambda: len(self._lines()) > self._seen, message="requests are made")
        self._seen, self._before = len(self._lines()), set(self._shop.live())

    def assert_clean(self) -> None:
        """Since then every request was answered, by somebody who lived then or lives now."""
        counted = Counter(self._lines()[self._seen :])
        assert set(counted) <= self._before | set(self._shop.live()), counted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
