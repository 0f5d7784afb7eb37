"""Circles by way of Docker's embedded server, on a real engine: discoverd in containers that have discoverd
as their name server.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.real.clients import ask
from tests.real.conftest import TIMEOUT, or_left_out
from tests.real.contained import Contained
from tests.real.place import EMBEDDED, containers_of
from tests.real.pointed import FOREIGN, Pointed
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.real.conftest import Containers
    from tests.real.session import Session

pytestmark = [pytest.mark.docker, pytest.mark.timeout(TIMEOUT)]

#: Told of a circle by way of this server; and of a server that was waited for in vain.
TOLD, IN_VAIN = "a loop: what is asked of {}:53 (", "no answer"


@pytest.fixture(scope="module")
def pointed(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Generator[Pointed]:
    with ExitStack() as stack:
        with or_left_out():
            made = Pointed(session, tmp_path_factory.mktemp("loops"), stack, 3)
        yield made


@pytest.fixture
def made(pointed: Pointed) -> Generator[Containers]:
    with containers_of(pointed.place) as made:
        yield made


class Circle:
    """discoverds in containers of one network, each with another one, or itself, as its name server."""

    def __init__(self, pointed: Pointed, made: Containers, unique: Callable[[str], str]) -> None:
        self._pointed, self._made, self._unique = pointed, made, unique
        self._network = unique("circle")
        self._subnet = f"{pointed.bridge.rsplit('.', 2)[0]}.150"
        made.network(self._network, "--subnet", f"{self._subnet}.0/24")

    def address(self, number: int) -> str:
        return f"{self._subnet}.{number}"

    def start(self, number: int, asks: int, *flags: str) -> Contained:
        """One more at an address, whose ``dns:`` is another address."""
        where = ("--network", self._network, "--ip", self.address(number), "--dns", self.address(asks))
        name = self._unique("dns")
        return Contained(self._made, self._pointed.clients, name, *where, flags=flags, watching=True)


@pytest.fixture
def circle(pointed: Pointed, made: Containers, unique: Callable[[str], str]) -> Circle:
    return Circle(pointed, made, unique)


def test_a_container_that_is_its_own_name_server(pointed: Pointed, circle: Circle) -> None:
    """Its resolv.conf names Docker's embedded server, which relays to it what it is asked by it."""
    looped = circle.start(53, 53, "--upstream", EMBEDDED)
    for name in (FOREIGN, "www.example.net"):
        for option in ("+notcp", "+tcp"):
            assert pointed.place.inside(looped.name, name, "A", option).status == "SERVFAIL"
    assert looped.log.count(TOLD.format(EMBEDDED)) == 1, looped.log
    assert IN_VAIN not in looped.log, "it is found at once"
    # what it knows itself it still answers, and what programs hear of the rest is not that there is none
    for client in ("glibc", "musl"):
        said = ask(pointed.engine, looped.name, client, "web.docker", FOREIGN)
        assert said == [pointed.web, "AGAIN"]
    # with nothing configured, its own address is left out where Docker says that it is behind 127.0.0.11
    plain = circle.start(54, 54)
    assert pointed.place.inside(plain.name, FOREIGN).status in {"SERVFAIL", "REFUSED"}
    assert IN_VAIN not in plain.log


@pytest.mark.parametrize("embedded", [True, False], ids=["embedded", "direct"])
def test_two_containers_that_point_at_each_other(pointed: Pointed, circle: Circle, embedded: bool) -> None:
    """By Docker's servers of both, or by each other's address; until one of them asks somebody else."""
    upstreams = [EMBEDDED, EMBEDDED] if embedded else [circle.address(54), circle.address(53)]
    one = circle.start(53, 54, "--upstream", upstreams[0])
    other = circle.start(54, 53, "--upstream", upstreams[1])
    for each, upstream, name in ((one, upstreams[0], FOREIGN), (other, upstreams[1], "www.example.net")):
        for option in ("+notcp", "+tcp"):
            reply = pointed.place.inside(each.name, name, "A", option, server="127.0.0.1")
            assert reply.status == "SERVFAIL", reply.text
        assert each.log.count(TOLD.format(upstream)) == 1, each.log
        assert IN_VAIN not in each.log, "it is found at once"
    pointed.engine.docker("rm", "--force", other.name)
    circle.start(54, 53, "--upstream", pointed.upstream_at)
    until(
        lambda: pointed.place.inside(one.name, FOREIGN, server="127.0.0.1").addresses == {"203.0.113.7"},
        message=lambda: one.log,
    )
