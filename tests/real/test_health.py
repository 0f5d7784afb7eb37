"""Health of real containers: HEALTHCHECK transitions, ``starting``, and what is served when none is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.real.conftest import TIMEOUT
from tests.real.place import containers_of, docker_host, wait
from tests.real.test_convergence import addresses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.real.conftest import Containers
    from tests.real.dig import Reply
    from tests.real.server import Server
    from tests.real.session import Session

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


#: A web server whose word depends on a file.
WEB = "mkdir -p /www && touch /www/ready && httpd -p 8080 -h /www && exec idle"


def test_a_check_by_label(fleet: Fleet) -> None:
    """discoverd looks by itself where there is no HEALTHCHECK."""
    kinds = {1: "tcp:8080", 2: "http:8080/ready"}
    command = ("sh", "-c", WEB)
    ips = {
        n: fleet.run(n, "--label", f"discoverd.check={kind}", command=command) for n, kind in kinds.items()
    }
    everyone = set(ips.values())
    fleet.expect(everyone, running=everyone)
    assert {fleet.health(number) for number in kinds} == {"healthy"}

    # its own words: the file is gone, so the status is 404
    fleet.engine.docker("exec", f"{fleet.name}-2", "rm", "/www/ready")
    fleet.expect({ips[1]}, running=everyone)
    assert f"http:8080/ready at {ips[2]} is unhealthy: HTTP status 404" in fleet.open.log_text
    # nobody listens any more, though the container runs
    fleet.engine.docker("exec", f"{fleet.name}-1", "killall", "httpd")
    fleet.expect(everyone, empty=set(), running=everyone)
    assert f"tcp:8080 at {ips[1]} is unhealthy: Connection refused" in fleet.open.log_text
    fleet.engine.docker("exec", f"{fleet.name}-2", "touch", "/www/ready")
    fleet.expect({ips[2]}, running=everyone)
    # a restart begins anew, and the command brings both back
    fleet.engine.docker("restart", "--time", "1", f"{fleet.name}-1")
    everyone = {fleet.ip(f"{fleet.name}-{number}") for number in kinds}
    fleet.expect(everyone, running=everyone)


@pytest.mark.docker
@pytest.mark.timeout(TIMEOUT)
def test_a_name_server_that_is_checked(
    session: Session, tmp_path: Path, unique: Callable[[str], str]
) -> None:
    """The checked one is a discoverd too, with the network stack of a container."""
    with docker_host(session, tmp_path, 7) as place, containers_of(place) as made:
        service, plain, good, bad = (unique(name) for name in ("names", "plain", "good", "bad"))
        label = ("--label", f"discoverd.service={service}")
        made.run(plain, *label)
        for name, asked in ((good, "docker"), (bad, "example.com")):
            made.run(name, *label, "--label", f"discoverd.check=dns:53/{asked}")
        ips = {name: place.ip(name) for name in (plain, good, bad)}
        checked = place.serve(inside=good)
        place.serve(inside=bad)  # it forwards nothing: REFUSED

        def look() -> Reply:
            return place.host(f"{service}.docker")

        wait(look, {ips[plain], ips[good]})
        wait(lambda: place.host(f"all.{service}.docker"), set(ips.values()))
        assert place.host(f"{bad}.docker").addresses == {ips[bad]}
        checked.freeze()
        wait(look, {ips[plain]})
        checked.thaw()
        wait(look, {ips[plain], ips[good]})
