"""What containers notice of a name server that is away for a while, and of a discoverd that is restarted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.real.clients import Watch, ask
from tests.real.conftest import TIMEOUT, or_left_out
from tests.real.pointed import FOREIGN, FOREIGN_LATE, WAYS, Pointed
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.real.session import Session

pytestmark = [pytest.mark.docker, pytest.mark.timeout(TIMEOUT)]

#: Directly, and through Docker's own resolver.
BOTH = list(WAYS)[:2]


@pytest.fixture(scope="module")
def pointed(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Generator[Pointed]:
    with ExitStack() as stack:
        with or_left_out():
            made = Pointed(session, tmp_path_factory.mktemp("outage"), stack, 4)
        yield made


@pytest.fixture
def watches(pointed: Pointed, tmp_path: Path) -> Generator[dict[tuple[str, str], Watch]]:
    """Every client in both ways, asking on and on for a name of ours and one of others."""
    with ExitStack() as stack:
        found = {}
        for number, way in enumerate(BOTH):
            for client in pointed.clients.names:
                log = tmp_path / f"{number}-{client}"
                watch = Watch(pointed.engine, pointed.asker(way), client, log, "web.docker", FOREIGN)
                stack.callback(watch.close)
                found[way, client] = watch
        yield found


def wait_well(pointed: Pointed, watches: dict[tuple[str, str], Watch]) -> None:
    """Until everybody has said the truth about both names, later than now."""
    well = {"web.docker": pointed.web, FOREIGN: {"203.0.113.7"}}
    told = {key: len(watch.lines) for key, watch in watches.items()}

    def right() -> bool:
        return all(
            len(watch.lines) > told[key] + 2 and watch.last() == well for key, watch in watches.items()
        )

    until(right, timeout=90, message=lambda: str({key: watch.lines[-4:] for key, watch in watches.items()}))


def test_discoverd_is_restarted(pointed: Pointed, watches: dict[tuple[str, str], Watch]) -> None:
    """Nobody is told that there is no such name: that would be kept, or believed."""
    wait_well(pointed, watches)
    pointed.server.terminate()
    until(
        lambda: all(isinstance(watch.last().get("web.docker"), str) for watch in watches.values()),
        timeout=90,
        message=lambda: str({key: watch.lines[-4:] for key, watch in watches.items()}),
    )
    pointed.server = pointed.serve()
    wait_well(pointed, watches)
    for (way, client), watch in watches.items():
        for line in watch.lines:
            assert not line.endswith("NONAME"), (way, client)


@pytest.mark.parametrize("silent", [False, True], ids=["closed", "silent"])
def test_the_upstream_server_is_away(pointed: Pointed, silent: bool) -> None:
    """Names of ours and what was found before are found; of other names nobody says that there are none."""
    late = f"{silent:d}.{FOREIGN_LATE}"
    known, upstream = [{"203.0.113.7"}, pointed.web], pointed.upstream
    assert all(said == known for said in everybody(pointed, FOREIGN, "web.docker").values())
    (upstream.freeze if silent else upstream.close)()
    try:
        for (way, client), said in everybody(pointed, FOREIGN, "web.docker", late).items():
            assert said[:2] == known, (way, client)
            assert isinstance(said[2], str), (way, client)
            assert said[2] != "NONAME", (way, client)
    finally:
        (upstream.thaw if silent else upstream.start)()

    def well() -> bool:
        said = everybody(pointed, late, FOREIGN, "web.docker")
        return all(each == [{"203.0.113.8"}, *known] for each in said.values())

    until(well, message=lambda: f"it is back, now {everybody(pointed, late, FOREIGN)}")


def everybody(pointed: Pointed, *names: str) -> dict[tuple[str, str], list[str | set[str]]]:
    """What every client says in both ways; at once, as most have a patience of their own."""
    askers = {way: pointed.asker(way) for way in BOTH}
    asked = [(way, client) for way in BOTH for client in pointed.clients.names]
    with ThreadPoolExecutor(len(asked)) as pool:
        said = pool.map(lambda each: ask(pointed.engine, askers[each[0]], each[1], *names), asked)
        return dict(zip(asked, said, strict=True))
