"""The engines that tests get are real, apart from each other, and come back after their death."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.real.images import bases
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.compose import Compose
    from tests.real.conftest import Containers
    from tests.real.engine import Engine, HostedEngine


def test_containers_run_and_carry_the_label(
    engine: Engine, containers: Containers, unique: Callable[[str], str]
) -> None:
    network = containers.network(unique("net"))
    made = containers.run(unique("one"), "--network", network)
    (seen,) = engine.inspect(made)
    assert seen["State"]["Running"]
    assert all(each["IPAddress"] for each in seen["NetworkSettings"]["Networks"].values())
    assert (
        made
        in engine.docker("ps", "--quiet", "--no-trunc", "--filter", f"label={engine.session.label}").split()
    )


def test_a_host_of_its_own_is_another_engine_and_survives_its_death(
    engine: Engine, engine_host: Callable[..., HostedEngine], unique: Callable[[str], str]
) -> None:
    one, two = engine_host("one"), engine_host("two")
    name = unique("box")
    one.run(name)
    assert name not in engine.docker("ps", "--format", "{{.Names}}").split()
    assert not two.docker("ps", "--quiet")

    one.kill()
    assert not one.docker("ps", check=False)
    one.start()
    (state,) = (each["State"]["Status"] for each in one.inspect(name))
    assert state == "exited", "a daemon that starts after a kill ends what its forerunner left"

    two.freeze()
    two.thaw()
    two.stop()
    two.start()
    assert not two.docker("ps", "--quiet")


def test_compose_scales(engine: Engine, compose: Compose, unique: Callable[[str], str]) -> None:
    project = unique("shop")
    compose.up(project, f"services: {{web: {{image: '{engine.image}'}}}}", "--scale", "web=2")
    assert len(compose.containers(project, "web")) == 2
    compose.scale(project, web=3)
    assert len(compose.containers(project)) == 3
    compose.down(project)
    until(lambda: not compose.containers(project), message="the project is gone")


def test_bases_of_a_dockerfile() -> None:
    dockerfile = """\
        ARG PYTHON=3.13
        FROM --platform=linux/amd64 python:${PYTHON}-slim AS build
        RUN true
        FROM python:$PYTHON-slim
        COPY --from=build /a /a
        FROM build
        FROM scratch
    """
    assert bases(dockerfile) == ["python:3.13-slim"]
