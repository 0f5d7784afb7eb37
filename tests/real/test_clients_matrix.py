"""discoverd as containers have it: the resolvers that programs bring along, on a real engine, in every way
that containers are pointed at a name server.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.real.clients import COMMANDS, ask
from tests.real.conftest import TIMEOUT, or_left_out
from tests.real.contained import Contained
from tests.real.pointed import FOREIGN, FOREIGN_MANY, LARGE, WAYS, Pointed

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.real.session import Session

pytestmark = [pytest.mark.docker, pytest.mark.timeout(TIMEOUT)]

DIRECT, EMBEDDED, *OTHERS = WAYS
#: What clients say of what there is not. Java does not tell why.
NONE = ("NONAME", "NONE")


@pytest.fixture(scope="module")
def pointed(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Generator[Pointed]:
    with ExitStack() as stack:
        with or_left_out():
            made = Pointed(session, tmp_path_factory.mktemp("clients"), stack, 5)
        yield made


def say(pointed: Pointed, way: str, client: str, *names: str) -> list[str | set[str]]:
    if client not in pointed.clients.names:
        pytest.skip(f"no {client} on this machine")
    return ask(pointed.engine, pointed.asker(way), client, *names)


@pytest.mark.parametrize("client", COMMANDS)
@pytest.mark.parametrize("way", [DIRECT, EMBEDDED])
def test_every_client_directly_and_through_dockers_resolver(pointed: Pointed, way: str, client: str) -> None:
    names = ("web.docker", "web.shop.docker", "web", FOREIGN)
    assert say(pointed, way, client, *names) == [pointed.web] * 3 + [{"203.0.113.7"}]
    for nobody in say(pointed, way, client, "nobody.docker", "nobody.example.org", "nobody"):
        assert nobody in NONE
    for large in say(pointed, way, client, "many.docker", FOREIGN_MANY):
        # busybox and musl before 1.2.4 never ask by TCP, and musl takes 48 at most
        if client in {"busybox", "musl"}:
            assert isinstance(large, set), large
            assert len(large) > 20
            assert large < LARGE
        else:
            assert large == LARGE


@pytest.mark.parametrize("client", ["glibc", "musl"])
@pytest.mark.parametrize("way", OTHERS)
def test_every_way(pointed: Pointed, way: str, client: str) -> None:
    names = ("web.docker", "web", FOREIGN, "nobody.docker")
    assert say(pointed, way, client, *names) == [pointed.web, pointed.web, {"203.0.113.7"}, "NONAME"]


#: Names that have dots, in a search list of two domains of which the first has nobody.
DOTTED = ("web", "web.shop", "1.web.shop", FOREIGN, "nobody", "no.body")
SEARCH = ("--dns-search", "nowhere.docker", "--dns-search", "docker")


def searching(pointed: Pointed, ndots: int, *options: str) -> dict[str, list[str | set[str]]]:
    """What every client makes of these names."""
    dots = ("--dns-opt", f"ndots:{ndots}")
    asker = pointed.start(f"dots{ndots}-{len(options)}", *SEARCH, *dots, *options)
    return {client: ask(pointed.engine, asker, client, *DOTTED) for client in pointed.clients.names}


@pytest.mark.parametrize("ndots", [0, 1, 5])
def test_search_lists_do_no_harm(pointed: Pointed, ndots: int) -> None:
    """Whether they are searched before or after: what is below a domain of ours and not there is NXDOMAIN,
    which is what makes resolvers go on.
    """
    for client, said in searching(pointed, ndots).items():
        *found, one, two = said
        assert isinstance(found[2], set), client
        assert found[:2] == [pointed.web] * 2, client
        assert found[3] == {"203.0.113.7"}, client
        assert found[2] < pointed.web, client
        assert {one, two} <= set(NONE), client


def test_search_lists_where_bare_names_are_turned_off(pointed: Pointed, tmp_path: Path) -> None:
    """Only then it makes a difference which resolver it is: musl searches for names of fewer dots than
    ndots and no others, busybox's nslookup for those without any (c-ares has changed its mind on it).
    """
    config = tmp_path / "discoverd.toml"
    config.write_text("[dns]\nbare_names = false\n")
    pointed.made.network("plain")
    options = ("--network", "plain", "--volume", f"{config}:/etc/discoverd/discoverd.toml:ro")
    flags = ("--upstream", pointed.upstream_at)
    Contained(pointed.made, pointed.clients, "plain-discoverd", *options, flags=flags, watching=True)
    dns = ("--dns", pointed.place.ip("plain-discoverd", "plain"))
    pointed.engine.docker("network", "connect", "bridge", "plain-discoverd")
    for ndots in (0, 1, 2):
        found = searching(pointed, ndots, *dns, "--network", "plain")
        for client in ("glibc", "musl", "busybox", "go", "node"):
            bare, dotted, *_ = found[client]
            bare_found = client != "musl" or ndots > 0
            dotted_found = client != "busybox" and (client != "musl" or ndots > 1)
            assert bare == (pointed.web if bare_found else "NONAME"), (client, ndots)
            assert dotted == (pointed.web if dotted_found else "NONAME"), (client, ndots)
