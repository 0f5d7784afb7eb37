"""Health of real containers: HEALTHCHECK transitions, ``starting``, and what is served when none is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.real.test_convergence import addresses

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.conftest import Containers
    from tests.real.server import Server

#: Well while the file is there. One failure is enough, so that a test need not wait for three.
BY_FILE = (
    *("--health-cmd", "test -e /tmp/well", "--health-interval", "1s"),
    *("--health-retries", "1", "--health-timeout", "10s"),
)
#: The first look comes after the interval: it never gets beyond "starting".
NEVER_LOOKED_AT = ("--health-cmd", "true", "--health-interval", "1h")
#: The engine gives up its health at the end of the start period only: well as soon as the file is there.
AT_ONCE_WELL = ("sh", "-c", "touch /tmp/well; exec idle")


class Fleet:
    """Containers of one service, two discoverd that follow them: fail-open, and ``when_none = "empty"``."""

    def __init__(self, containers: Containers, name: str, discoverd: Callable[..., Server]) -> None:
        self.containers, self.name = containers, name
        self.engine = containers.engine
        self.open = discoverd(docker=self.engine)
        self.empty = discoverd(docker=self.engine, config='[health]\nwhen_none = "empty"\n')

    def run(self, number: int, *options: str, command: tuple[str, ...] = AT_ONCE_WELL) -> str:
        """Start one; its address."""
        label = ("--label", f"discoverd.service={self.name}")
        return self.ip(self.containers.run(f"{self.name}-{number}", *label, *options, command=command))

    def ip(self, container: str) -> str:
        (found,) = addresses(self.engine, container)
        return found

    def make(self, number: int, *, well: bool) -> None:
        """What its HEALTHCHECK is to find from now on."""
        command = ("touch",) if well else ("rm", "-f")
        self.engine.docker("exec", f"{self.name}-{number}", *command, "/tmp/well")

    def expect(self, given: set[str], *, empty: set[str] | None = None, running: set[str]) -> None:
        """What comes to be served with fail-open, with ``empty``, and whatever the health."""
        self.open.wait_answer(f"{self.name}.docker", given)
        self.empty.wait_answer(f"{self.name}.docker", given if empty is None else empty)
        for server in (self.open, self.empty):
            server.wait_answer(f"all.{self.name}.docker", running)
        if empty == set():
            reply = self.empty.dig(f"{self.name}.docker")
            assert reply.nodata, reply.text
            assert {r.ttl for r in reply.authority} == {1}, "it may be well again soon"

    def health(self, number: int) -> str:
        services = self.open.api(f"/v1/services/{self.name}").json
        found: str = next(
            instance["health"]
            for service in services["services"]
            for instance in service["instances"]
            if f"{self.name}-{number}.docker" in instance["names"]
        )
        return found


@pytest.fixture
def fleet(containers: Containers, unique: Callable[[str], str], discoverd: Callable[..., Server]) -> Fleet:
    return Fleet(containers, unique("fit"), discoverd)


def test_healthy_unhealthy_and_healthy_again(fleet: Fleet) -> None:
    one, two = fleet.run(1, *BY_FILE), fleet.run(2, *BY_FILE)
    both = {one, two}
    fleet.expect(both, running=both)
    fleet.make(1, well=False)
    fleet.expect({two}, running=both)
    assert (fleet.health(1), fleet.health(2)) == ("unhealthy", "healthy")
    # none is left: all that run, or nothing
    fleet.make(2, well=False)
    fleet.expect(both, empty=set(), running=both)
    fleet.make(1, well=True)
    fleet.expect({one}, running=both)
    fleet.make(2, well=True)
    fleet.expect(both, running=both)
    # a container's own name is about that container: it is all there is
    fleet.make(1, well=False)
    fleet.expect({two}, running=both)
    assert fleet.open.dig(f"{fleet.name}-1.docker").addresses == {one}
    assert fleet.empty.dig(f"{fleet.name}-1.docker").nodata


def test_starting_is_served_only_where_none_is_well(fleet: Fleet) -> None:
    one = fleet.run(1, *NEVER_LOOKED_AT)
    fleet.expect({one}, empty=set(), running={one})
    assert fleet.health(1) == "starting"
    two = fleet.run(2)
    fleet.expect({two}, running={one, two})
    fleet.engine.docker("stop", "--time", "1", f"{fleet.name}-2")
    fleet.expect({one}, empty=set(), running={one})


def test_starting_again_after_a_restart(fleet: Fleet) -> None:
    """No event of the engine's says "starting"."""
    checked = ("--health-cmd", "test -e /tmp/well", "--health-interval", "2s", "--health-retries", "1")
    one, two = fleet.run(1, *checked), fleet.run(2)
    fleet.expect({one, two}, running={one, two})
    fleet.engine.docker("pause", f"{fleet.name}-1")
    fleet.expect({two}, running={two})
    fleet.engine.docker("unpause", f"{fleet.name}-1")
    fleet.expect({one, two}, running={one, two})
    fleet.engine.docker("restart", "--time", "1", f"{fleet.name}-1")
    fleet.expect({fleet.ip(f"{fleet.name}-1"), two}, running={fleet.ip(f"{fleet.name}-1"), two})
